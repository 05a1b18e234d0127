"""Packed shards and unpacked trees: the same images, whatever happened meanwhile."""

import hashlib
import io
import subprocess
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

from resnetctl.data.copies.pack import re_encode
from resnetctl.data.dataset import load_dataset
from resnetctl.data.prepare import prepare
from resnetctl.data.verify import verify
from tests.fixtures.holdings import Holding, contents, packed
from tests.fixtures.imagenet_archives import jpeg


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


def test_re_encoding_keeps_the_range_of_16_bits() -> None:
    pixels = np.linspace(0, 65535, 64 * 48).astype(np.uint16).reshape(48, 64)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    made = np.asarray(Image.open(io.BytesIO(re_encode(file.getvalue(), max_side=32, quality=95))))
    assert made.shape == (24, 32, 3)
    assert made[0].max() < 20
    assert made[-1].min() > 235
