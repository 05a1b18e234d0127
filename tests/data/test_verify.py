import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resnetctl.data import imagenet
from resnetctl.data.dataset import load_dataset
from resnetctl.data.images.decode import decode
from resnetctl.data.index import IndexInfo, Record, index_path
from resnetctl.data.index_writer import IndexBuilder
from resnetctl.data.prepare import prepare
from resnetctl.data.verify import Report, verify
from resnetctl.errors import DataError
from tests.fixtures.imagenet_archives import TRAIN, jpeg, official, val_wnids


def tree(root: Path, odd: dict[str, bytes] | None = None, classes: tuple[str, ...] = ("cat", "dog")) -> Path:
    """A prepared data root of class folders, `odd` files among them."""
    for split in ("train", "val"):
        for k, name in enumerate(classes):
            (root / split / name).mkdir(parents=True)
            for n in range(4):
                (root / split / name / f"{n}.jpg").write_bytes(jpeg(10 * k + n, 90, 120))
    for name, data in (odd or {}).items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    prepare(root)
    return root


def reasons(report: Report) -> dict[str, str]:
    return {bad.name: bad.reason for bad in report.bad}


@pytest.mark.parametrize("workers", [0, 2])
def test_a_sound_data_set(tmp_path: Path, workers: int) -> None:
    seen = []
    report = verify(tree(tmp_path), workers=workers, progress=lambda *a: seen.append(a))
    assert report.ok
    assert report.bad == ()
    assert report.images == 16
    assert ("decoding val", 8, 8) in seen


def bomb() -> bytes:
    """A PNG of a few hundred bytes that claims 60,000 × 60,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 60_000, 60_000, 1, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


BAD = {
    "truncated.JPEG": (jpeg(1, 90, 120)[:-400], "truncated"),
    "half.JPEG": (jpeg(2, 90, 120)[:500], "truncated"),
    "empty.JPEG": (b"", "it is empty"),
    "zeros.JPEG": (bytes(3000), "all its bytes are zero"),
    "page.JPEG": (b"\n<!DOCTYPE html><html>This photo is no longer available</html>", "it is a web page"),
    "text.JPEG": (b"this is not an image\n" * 9, "it is text"),
    "noise.JPEG": (bytes(range(256)) * 4, "cannot identify"),
    "bomb.png": (bomb(), "decompression bomb"),
    "[bold]red[/].JPEG": (b"\xff\xd8\xff", ""),
}


@pytest.mark.parametrize("workers", [0, 2])
def test_faults_13_and_19_bad_images_are_found_with_the_reason(tmp_path: Path, workers: int) -> None:
    report = verify(tree(tmp_path, {f"train/cat/{n}": d for n, (d, _) in BAD.items()}), workers=workers)
    assert not report.ok
    found = reasons(report)
    assert set(found) == {f"cat/{name}" for name in BAD}
    for name, (_, reason) in BAD.items():
        assert reason in found[f"cat/{name}"].lower()
    assert [b.name for b in report.bad] == sorted(found)
    assert all((tmp_path / b.container).read_bytes() == BAD[b.name[4:]][0] for b in report.bad)


def test_a_bomb_between_pillows_warning_and_its_error(tmp_path: Path) -> None:
    image = Image.new("1", (9_500, 9_500))
    file = io.BytesIO()
    image.save(file, "PNG")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = verify(tree(tmp_path, {"val/dog/big.png": file.getvalue()}), workers=0)
    assert list(reasons(report)) == ["dog/big.png"]
    assert "decompression bomb" in reasons(report)["dog/big.png"]


def test_what_training_would_refuse_is_not_accepted(tmp_path: Path) -> None:
    """Pillow reads more than is taken for training: kinds that start other programs, pixels without a range."""
    eps, numbers = io.BytesIO(), io.BytesIO()
    Image.new("RGB", (20, 30)).save(eps, "EPS")
    Image.new("F", (20, 30)).save(numbers, "TIFF")
    deep = io.BytesIO()
    Image.new("I;16", (20, 30)).save(deep, "PNG")
    images = {
        "train/cat/a.jpg": eps.getvalue(),
        "train/cat/b.tiff": numbers.getvalue(),
        "train/cat/c.png": deep.getvalue(),
    }
    report = verify(tree(tmp_path, images), workers=0)
    found = reasons(report)
    assert set(found) == {"cat/a.jpg", "cat/b.tiff"}
    assert "of unknown range" in found["cat/b.tiff"]
    index = load_dataset(tmp_path).open("train", include_quarantined=True)
    for i in range(len(index)):
        if index.name(i) in found:
            with pytest.raises(DataError):
                decode(index.read(i))
        else:
            decode(index.read(i))


def test_fault_14_changed_scan_bytes_are_found_by_their_crc(tmp_path: Path) -> None:
    """Pillow decodes these without a word."""
    prepare(tmp_path, kind="sample")
    index = prepare(tmp_path, kind="sample").dataset.val()
    record = index[7]
    archive = tmp_path / "sample" / "val.zip"
    data = bytearray(archive.read_bytes())
    data[record.offset + record.length - 40] ^= 0x10
    archive.write_bytes(data)
    Image.open(io.BytesIO(index.read(7))).load()
    assert reasons(verify(tmp_path, workers=0)) == {
        record.name: "its bytes have changed since prepare or verify read them (CRC)"
    }


def test_fault_15_odd_but_sound_files_are_accepted_and_noted(tmp_path: Path) -> None:
    odd = {
        "train/cat/a.JPEG": jpeg(1, format="PNG"),
        "train/cat/b.JPEG": jpeg(2, mode="CMYK"),
        "val/cat/c.JPEG": jpeg(3, mode="L"),
        "val/cat/d.png": jpeg(4, mode="RGBA", format="PNG"),
    }
    report = verify(tree(tmp_path, odd), workers=0)
    assert report.ok
    assert report.notes == {"PNG in a file called .JPEG": 1, "CMYK": 1, "grayscale": 1, "with transparency": 1}


def test_corrupt_exif_is_no_fault(tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.new("RGB", (30, 20)).save(file, "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f" + b"\xff" * 100)
    assert verify(tree(tmp_path, {"train/cat/exif.jpg": file.getvalue()}), workers=0).ok


def test_a_file_that_changed_or_went_after_prepare(tmp_path: Path) -> None:
    root = tree(tmp_path)
    (root / "train/cat/0.jpg").unlink()
    (root / "train/cat/1.jpg").write_bytes(b"")
    (root / "val/dog/3.jpg").write_bytes(jpeg(1, 91, 119).ljust(5000, b"\0"))
    found = reasons(verify(root, workers=0))
    assert set(found) == {"cat/0.jpg", "cat/1.jpg", "dog/3.jpg"}
    assert "No such file" in found["cat/0.jpg"]
    assert "ends before" in found["cat/1.jpg"]


def test_a_size_that_is_not_the_indexs(tmp_path: Path) -> None:
    root = tree(tmp_path)
    data = (root / "train/cat/0.jpg").read_bytes()
    at = data.index(b"\xff\xc0") + 5
    (root / "train/cat/0.jpg").write_bytes(data[:at] + struct.pack(">HH", 60, 120) + data[at + 4 :])
    assert reasons(verify(root, workers=0)) == {
        "cat/0.jpg": "it is 120 × 60, but the index says 120 × 90: run resnetctl prepare again"
    }


def write_index(root: Path, classes: tuple[str, ...], names: dict[str, int], split: str = "train") -> None:
    """An index as another program, or an earlier mistake, might have left it, of files that exist."""
    import json

    builder = IndexBuilder()
    for name, label in names.items():
        path = root / split / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg(label))
        builder.add(Record(name, f"{split}/{name}", 0, path.stat().st_size, label))
    info = IndexInfo(split=split, source="folder", root=".", classes=classes, class_names=classes)
    info = builder.write(index_path(root, split), info)
    dataset = {"name": "x", "source": "folder", "recipe": None, "classes": len(classes), "train": len(names), "val": 0}
    dataset |= {"created_by": "resnetctl 0", "incomplete": None, "fingerprints": {split: info.fingerprint}}
    (root / "dataset.json").write_text(json.dumps(dataset))


def failed(report: Report) -> dict[str, str]:
    return {check.name: check.detail for check in report.checks if not check.ok}


def test_fault_16_a_stray_folder_that_became_a_class(tmp_path: Path) -> None:
    classes = (".ipynb_checkpoints", "cat", "dog")
    write_index(tmp_path, classes, {f"{c}/1.jpg": k for k, c in enumerate(classes)})
    assert "shifts the labels" in failed(verify(tmp_path, workers=0))["train classes"]


def test_fault_16_a_stray_folder_beside_the_classes_is_harmless_and_noted(tmp_path: Path) -> None:
    root = tree(tmp_path, {"train/.ipynb_checkpoints/0-checkpoint.jpg": jpeg(0)})
    report = verify(root, workers=0)
    assert report.ok
    assert "train/.ipynb_checkpoints" in report.remarks[0]


def test_fault_17_an_empty_class_is_named(tmp_path: Path) -> None:
    write_index(tmp_path, ("cat", "dog", "emu"), {"cat/1.jpg": 0, "emu/1.jpg": 2})
    assert failed(verify(tmp_path, workers=0))["train counts"] == "no images of dog"


def test_fault_17_999_classes(tmp_path: Path) -> None:
    classes = tuple(w for w in imagenet.wnids() if w != "n03126707")
    write_index(tmp_path, classes, {f"{w}/{w}_1.JPEG": k for k, w in enumerate(classes)})
    assert (
        "train lacks n03126707; train has 999 of 1,281,167 images"
        in failed(verify(tmp_path, workers=0))["train counts"]
    )


def test_what_allow_incomplete_let_pass_is_told_but_no_fault(tmp_path: Path) -> None:
    for split in ("train", "val"):
        (tmp_path / split / "cat").mkdir(parents=True)
        (tmp_path / split / "cat" / "1.jpg").write_bytes(jpeg(1))
    (tmp_path / "train" / "emu").mkdir()
    prepare(tmp_path, allow_incomplete=True)
    report = verify(tmp_path, workers=0)
    assert report.ok
    assert any("allowed by --allow-incomplete: no images of emu" in check.detail for check in report.checks)


def test_unsorted_classes_and_labels_of_another_class(tmp_path: Path) -> None:
    write_index(tmp_path, ("dog", "cat"), {"dog/1.jpg": 0, "cat/1.jpg": 1})
    assert "not sorted" in failed(verify(tmp_path, workers=0))["train classes"]
    write_index(tmp_path, ("cat", "dog"), {"dog/1.jpg": 0, "cat/1.jpg": 1})
    assert (
        "2 images are not labelled with the class of their folder"
        in failed(verify(tmp_path, workers=0))["train labels"]
    )


def test_fault_20_a_wnid_in_another_wnids_folder(tmp_path: Path) -> None:
    wrong = {"train/n01440764/n01443537_7.JPEG": jpeg(1)}
    report = verify(tree(tmp_path, wrong, ("n01440764", "n01443537")), workers=0)
    assert "n01440764/n01443537_7.JPEG" in failed(report)["train labels"]


def val_by(root: Path, label_of: dict[int, int]) -> Path:
    """A tree of all classes, whose val images of known number lie where `label_of` says."""
    wnids = imagenet.wnids()
    for wnid in wnids:
        (root / "train" / wnid).mkdir(parents=True)
        (root / "train" / wnid / f"{wnid}_1.JPEG").write_bytes(TINY)
    for number, label in label_of.items():
        (root / "val" / wnids[label]).mkdir(parents=True, exist_ok=True)
        (root / "val" / wnids[label] / f"ILSVRC2012_val_{number:08d}.JPEG").write_bytes(TINY)
    prepare(root, allow_incomplete=True)
    return root


TINY = jpeg(0, 2, 2)


def test_fault_18_devkit_ids_used_as_labels(tmp_path: Path) -> None:
    report = verify(val_by(tmp_path, {n: i - 1 for n, i in imagenet.ANCHOR_IDS.items()}), workers=0)
    detail = failed(report)["val label order"]
    assert "ILSVRC2012_val_00000001.JPEG has 489 instead of 65" in detail
    assert "the devkit's ILSVRC2012_IDs were used as labels" in detail
    assert "resnetctl prepare" in detail


def test_known_labels_that_are_right_or_in_another_order(tmp_path: Path) -> None:
    assert verify(val_by(tmp_path / "right", imagenet.ANCHORS), workers=0).ok
    shuffled = verify(
        val_by(tmp_path / "wrong", {n: (7 * label) % 1000 for n, label in imagenet.ANCHORS.items()}), workers=0
    )
    assert "10 of 10 images of known label are wrong" in failed(shuffled)["val label order"]
    assert "ILSVRC2012_ID" not in failed(shuffled)["val label order"]


def test_images_inside_the_official_archives(tmp_path: Path) -> None:
    wnids = imagenet.wnids()[::300]
    made = official(wnids)
    made.train[wnids[1]][2] = (made.train[wnids[1]][2][0], b"<html>")
    root = made.write(tmp_path / "in")
    prepare(tmp_path / "data", root)
    report = verify(tmp_path / "data", workers=2)
    assert reasons(report) == {f"{wnids[1]}/{made.train[wnids[1]][2][0]}": "it is a web page, not an image"}
    assert report.bad[0].container == TRAIN
    assert val_wnids(wnids, made)


def test_nothing_prepared(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no data set is prepared"):
        verify(tmp_path, workers=0)


def test_more_images_than_a_worker_takes_at_once(tmp_path: Path) -> None:
    prepare(tmp_path, kind="sample")
    seen: list[tuple[str, int, int | None]] = []
    report = verify(tmp_path, workers=2, progress=lambda *a: seen.append(a))
    assert report.ok
    assert report.notes == {"grayscale": 2500}
    steps = np.diff([0] + [done for what, done, _ in seen if what == "decoding train"])
    assert steps.sum() == 2000
    assert (steps > 0).all()
