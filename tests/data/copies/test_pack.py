"""Packed shards and unpacked trees: the same images, whatever happened meanwhile."""

import hashlib
import io
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resnetctl.data.copies.from_source import Copying
from resnetctl.data.copies.pack import Packing, re_encode
from resnetctl.data.dataset import Dataset, load_dataset
from resnetctl.data.prepare import Split, prepare
from resnetctl.data.verify import verify
from resnetctl.errors import DataError, ResnetctlError, UsageError
from tests.fixtures.holdings import Holding
from tests.fixtures.imagenet_archives import jpeg


@pytest.fixture(scope="module")
def official_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Holding().official(tmp_path_factory.mktemp("official"))


def packed(data: Path, source: Path, workers: int = 2, **how: int) -> Dataset:
    copying = Copying(packing=Packing(**{"shard_size": 50, **how}), workers=workers)
    return prepare(data, source, allow_incomplete=True, copying=copying).dataset


def contents(dataset: Dataset) -> dict[str, dict[str, tuple[bytes, int]]]:
    return {
        split: {r.name: (index.read(i), r.label) for i, r in enumerate(index)}
        for split in dataset.fingerprints
        if (index := dataset.open(split))
    }


def test_shards_hold_the_same_images_and_need_no_source(official_root: Path, tmp_path: Path) -> None:
    dataset = packed(tmp_path / "data", official_root)
    assert dataset.source == "shards"
    assert contents(dataset) == Holding().contents()
    plain = prepare(tmp_path / "plain", official_root, allow_incomplete=True).dataset
    assert dataset.fingerprints == plain.fingerprints  # a run can be resumed on the other
    moved = tmp_path / "elsewhere"
    (tmp_path / "data").rename(moved)
    assert contents(load_dataset(moved)) == Holding().contents()
    assert prepare(moved, allow_incomplete=True).dataset.fingerprints == dataset.fingerprints
    assert not (moved / ".copying").exists()


def test_webdataset_reads_the_same_labels_and_pixels(official_root: Path, tmp_path: Path) -> None:
    import webdataset

    dataset = packed(tmp_path / "data", official_root)
    for split in ("train", "val"):
        index = dataset.open(split)
        expected = sorted(
            (int(index.label[i]), hashlib.sha256(pixels(index.read(i))).hexdigest()) for i in range(len(index))
        )
        shards = sorted(map(str, (tmp_path / "data" / "shards").glob(f"{split}-*.tar")))
        assert len(shards) > 1
        read = webdataset.WebDataset(shards, shardshuffle=False).decode("rgb8").to_tuple("jpg;png", "cls")
        found = sorted((int(label), hashlib.sha256(np.ascontiguousarray(image)).hexdigest()) for image, label in read)
        assert found == expected
        with tarfile.open(shards[0]) as tar:
            names = tar.getnames()
        assert len(names) == 100
        assert {name.rpartition(".")[2] for name in names} <= {"jpg", "png", "cls"}


def pixels(data: bytes) -> bytes:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).tobytes()


def test_train_shards_are_mixed_and_sums_are_right(official_root: Path, tmp_path: Path) -> None:
    packed(tmp_path / "data", official_root)
    folder = tmp_path / "data" / "shards"
    done = subprocess.run("sha256sum -c *.sha256", shell=True, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with tarfile.open(folder / "train-00000.tar") as tar:
        labels = {tar.extractfile(m).read() for m in tar if m.name.endswith(".cls")}  # type: ignore[union-attr]
    assert len(labels) > 8
    archives = [c for c in verify(tmp_path / "data", workers=0, archives=True).checks if c.name == "archive"]
    assert len(archives) == 7
    assert all(check.ok for check in archives)
    shard = folder / "val-00000.tar"
    data = bytearray(shard.read_bytes())
    data[600] ^= 1
    shard.write_bytes(data)
    report = verify(tmp_path / "data", workers=0, archives=True)
    assert [c.name for c in report.checks if not c.ok and c.name == "archive"] == ["archive"]
    assert len(report.bad) == 1
    assert "CRC" in report.bad[0].reason


def test_the_same_images_give_the_same_bytes_with_any_number_of_workers(official_root: Path, tmp_path: Path) -> None:
    packed(tmp_path / "a", official_root, workers=0)
    packed(tmp_path / "b", official_root, workers=2)
    for path in sorted((tmp_path / "a" / "shards").iterdir()):
        assert path.read_bytes() == (tmp_path / "b" / "shards" / path.name).read_bytes()


def test_max_side_and_quality(official_root: Path, tmp_path: Path) -> None:
    dataset = packed(tmp_path / "data", official_root, max_side=16, quality=70)
    train, plain = dataset.train(), prepare(tmp_path / "p", official_root, allow_incomplete=True).dataset.train()
    assert [train.name(i) for i in range(len(train))] == [plain.name(i) for i in range(len(plain))]
    assert (train.label == plain.label).all()
    assert np.maximum(train.height, train.width).max() == 16
    for i in range(0, len(train), 17):
        image, original = (Image.open(io.BytesIO(x.read(i))) for x in (train, plain))
        assert (image.format, image.mode) == ("JPEG", "RGB")
        assert "progressive" not in image.info
        assert abs(image.width / image.height - original.width / original.height) < 0.1
        small = original.convert("RGB").resize(image.size, Image.Resampling.BICUBIC)
        assert np.abs(np.asarray(image, int) - np.asarray(small, int)).mean() < 20


def test_re_encoding_a_large_image_keeps_what_it_shows() -> None:
    file = io.BytesIO()
    picture = Image.open(io.BytesIO(jpeg(3, 600, 800)))
    picture.save(file, "JPEG", progressive=True, quality=95)
    small = Image.open(io.BytesIO(re_encode(file.getvalue(), max_side=200, quality=None)))
    assert small.size == (200, 150)
    assert "progressive" not in small.info
    wanted = np.asarray(picture.convert("RGB").resize((200, 150), Image.Resampling.BICUBIC), int)
    assert np.abs(np.asarray(small, int) - wanted).mean() < 2
    assert Image.open(io.BytesIO(re_encode(file.getvalue(), max_side=None, quality=50))).size == (800, 600)
    assert re_encode(b"no image", max_side=10, quality=None) == b"no image"


def kill_when(command: list[str], happened: Callable[[], bool]) -> bool:
    """Run `command`, kill -9 its whole tree once `happened()`; whether it was still at work."""
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    while running.poll() is None and not happened():
        time.sleep(0.001)
    killed = running.poll() is None
    os.kill(running.pid, signal.SIGKILL)  # the main process alone: its workers must go by themselves
    running.wait()
    return killed


@pytest.mark.parametrize("how", ["--pack", "--extract"])
def test_kill_9_while_copying_then_again(how: str, tmp_path: Path) -> None:
    tree = tmp_path / "in"
    data = jpeg(1, 200, 300)
    for split, count in (("train", 2000), ("val", 200)):
        for name in ("a", "b"):
            (tree / split / name).mkdir(parents=True)
            for n in range(count):
                (tree / split / name / f"{n}.jpg").write_bytes(data + n.to_bytes(4, "big"))
    root = tmp_path / "data"
    command = [sys.executable, "-m", "resnetctl", "prepare", str(tree), "--data", str(root), how, "--workers", "2"]
    command += ["--shard-size", "200"] if how == "--pack" else []

    def written() -> int:
        if how == "--pack":
            return len(list((root / "shards").glob("*.index.safetensors"))) if (root / "shards").exists() else 0
        folder = root / "train" / "a"
        return len(list(folder.iterdir())) if folder.exists() else 0

    kills = 0
    for target in (2, 6) if how == "--pack" else (100, 900):
        kills += kill_when(command, lambda target=target: written() >= target)
        before = {
            p: p.with_name(p.name.replace("index.safetensors", "tar")).stat().st_mtime_ns
            for p in root.rglob("shards/*.index.safetensors")
        }
        assert not (root / "dataset.json").exists() or not kills
    assert kills
    time.sleep(0.3)
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(before) >= 4 if how == "--pack" else not before
    assert {p: p.with_name(p.name.replace("index.safetensors", "tar")).stat().st_mtime_ns for p in before} == before
    dataset = load_dataset(root)
    assert (dataset.train_images, dataset.val_images) == (4000, 400)
    assert dataset.fingerprints == prepare(tmp_path / "plain", tree).dataset.fingerprints
    assert contents(dataset) == contents(load_dataset(tmp_path / "plain"))
    assert not list(root.rglob("*resnetctl-tmp"))
    assert not (root / ".copying").exists()


def test_another_packing_in_the_same_place_is_refused(official_root: Path, tmp_path: Path) -> None:
    packed(tmp_path / "data", official_root)
    with pytest.raises(DataError, match="made in another way"):
        packed(tmp_path / "data", official_root, max_side=16)
    with pytest.raises(UsageError, match="packed shards already"):
        packed(tmp_path / "data", tmp_path / "data")
    (tmp_path / "other" / "shards").mkdir(parents=True)
    (tmp_path / "other" / "shards" / "thesis.tex").write_text("x")
    with pytest.raises(DataError, match=r"thesis.tex, which resnetctl did not write"):
        packed(tmp_path / "other", official_root)
    assert (tmp_path / "other" / "shards" / "thesis.tex").read_text() == "x"


def test_a_missing_shard_is_named(official_root: Path, tmp_path: Path) -> None:
    packed(tmp_path / "data", official_root)
    (tmp_path / "data" / "shards" / "train-00001.tar").unlink()
    with pytest.raises(DataError, match=r"train-00001.tar is missing"):
        prepare(tmp_path / "data", allow_incomplete=True)
    dataset = packed(tmp_path / "data", official_root)
    assert contents(dataset) == Holding().contents()


def test_the_extracted_tree_is_what_torchvision_reads(official_root: Path, tmp_path: Path) -> None:
    from torchvision.datasets import ImageFolder

    copying = Copying(extract=True, workers=2)
    done = prepare(tmp_path / "data", official_root, allow_incomplete=True, copying=copying)
    assert done.dataset.source == "folder"
    assert contents(done.dataset) == Holding().contents()
    for split in ("train", "val"):
        index = done.dataset.open(split)
        folder = ImageFolder(str(tmp_path / "data" / split), allow_empty=True)
        theirs = {str(Path(p).relative_to(tmp_path / "data" / split)): label for p, label in folder.samples}
        assert theirs == {r.name: r.label for r in index}
    again = prepare(tmp_path / "data", allow_incomplete=True)
    assert again.dataset.fingerprints == done.dataset.fingerprints


def test_nothing_is_written_through_links_or_over_other_files(official_root: Path, tmp_path: Path) -> None:
    copying = Copying(extract=True)
    outside = tmp_path / "outside"
    outside.mkdir()
    data = tmp_path / "data"
    data.mkdir()
    (data / "train").symlink_to(outside)
    with pytest.raises(DataError, match="not a folder that resnetctl made"):
        prepare(data, official_root, allow_incomplete=True, copying=copying)
    assert list(outside.iterdir()) == []
    (data / "train").unlink()
    (data / "train" / "n01440764").mkdir(parents=True)
    mine = data / "train" / "n01440764" / "n01440764_18.JPEG"
    mine.write_bytes(b"mine")
    with pytest.raises(DataError, match="already exists"):
        prepare(data, official_root, allow_incomplete=True, copying=copying)
    assert mine.read_bytes() == b"mine"
    mine.unlink()
    (data / "train" / "zebra").mkdir()
    (data / "train" / "zebra" / "1.jpg").write_bytes(jpeg(1))
    with pytest.raises(DataError, match="not from this source"):
        prepare(data, official_root, allow_incomplete=True, copying=copying)


def test_a_disk_without_room_is_told_before_anything_is_written(
    official_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil
    from collections import namedtuple

    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10, 10, 1000))
    with pytest.raises(ResnetctlError, match="are free"):
        packed(tmp_path / "data", official_root)
    assert not list(tmp_path.rglob("*.tar"))


def test_a_source_without_val_gets_one_that_stays(tmp_path: Path) -> None:
    tree = tmp_path / "pets"
    counts = {"cat": 100, "dog": 21, "emu": 2}
    for name, count in counts.items():
        (tree / name).mkdir(parents=True)
        for n in range(count):
            (tree / name / f"{n}.jpg").write_bytes(jpeg(n))
    first = prepare(tmp_path / "data", tree, split=Split(fraction=0.1, seed=3))
    train, val = first.dataset.train(), first.dataset.val()
    assert np.bincount(val.label).tolist() == [10, 2, 1]
    assert np.bincount(train.label).tolist() == [90, 19, 1]
    names = {r.name for r in train} | {r.name for r in val}
    assert len(names) == 123
    assert val.info.notes == ("val: 10 % of the train images of each class, drawn with seed 3",)
    assert prepare(tmp_path / "data").dataset.fingerprints == first.dataset.fingerprints
    other = prepare(tmp_path / "other", tree, split=Split(fraction=0.1, seed=4)).dataset
    assert other.fingerprints != first.dataset.fingerprints
    old = {r.name for r in val}
    (tree / "cat" / "new.jpg").write_bytes(jpeg(5))
    later = {r.name for r in prepare(tmp_path / "data").dataset.val()}
    assert len(old - later) <= 1
    for name in ("train", "val"):
        (tmp_path / "both" / name / "cat").mkdir(parents=True)
        (tmp_path / "both" / name / "cat" / "1.jpg").write_bytes(jpeg(1))
    with pytest.raises(UsageError, match="val split of its own"):
        prepare(tmp_path / "third", tmp_path / "both", split=Split(fraction=0.1))
    (tree / "fox").mkdir()
    (tree / "fox" / "1.jpg").write_bytes(jpeg(1))
    with pytest.raises(DataError, match="fox has a single image"):
        prepare(tmp_path / "fourth", tree, split=Split(fraction=0.1))


def test_re_encoding_keeps_the_range_of_16_bits() -> None:
    pixels = np.linspace(0, 65535, 64 * 48).astype(np.uint16).reshape(48, 64)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    made = np.asarray(Image.open(io.BytesIO(re_encode(file.getvalue(), max_side=32, quality=95))))
    assert made.shape == (24, 32, 3)
    assert made[0].max() < 20
    assert made[-1].min() > 235
