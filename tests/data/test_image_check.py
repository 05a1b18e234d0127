"""Whether an image can be trained on, and why not."""

import io
import struct
import warnings
import zlib
from pathlib import Path

import pytest
from PIL import Image

from resnetctl.data.dataset import load_dataset
from resnetctl.data.images.decode import decode
from resnetctl.data.prepare import prepare
from resnetctl.data.verify import verify
from resnetctl.errors import DataError
from tests.fixtures.class_folders import reasons, tree
from tests.fixtures.imagenet_archives import jpeg


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
