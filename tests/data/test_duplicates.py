"""Images that are there twice: in both splits, in two classes, with the same bytes or only nearly."""

import io
import sys
import time
from itertools import combinations

import numpy as np
import pytest
from PIL import Image

from resnetctl.data.duplicates import MOST_DIFFERENT, near_pairs
from resnetctl.data.images.perceptual import perceptual_hash
from resnetctl.data.prepare import prepare
from resnetctl.data.verify import verify
from resnetctl.errors import ResnetctlError
from tests.fixtures.photos import tile


def jpeg(seed, quality=90, size=None):
    picture = tile(seed, 200, 160)
    file = io.BytesIO()
    (picture.resize(size) if size else picture).save(file, "JPEG", quality=quality)
    return file.getvalue()


def verified(root, files, **how):
    """What verify finds twice among `files`, besides two images of each class that are there once."""
    once = {f"{s}/{c}/{s}.jpg": jpeg(100 + 2 * n + (s == "val")) for n, c in enumerate("ab") for s in ("train", "val")}
    for name, data in {**once, **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    prepare(root)
    report = verify(root, workers=0, **how)
    assert report.ok
    return report.duplicates


def told(groups):
    return [(["/".join(image) for image in g.images], g.same_bytes, g.in_both_splits, g.in_two_classes) for g in groups]


def test_the_same_bytes_in_train_and_val_and_in_two_classes(tmp_path):
    files = {
        "train/a/1.jpg": jpeg(1),
        "val/a/one.jpg": jpeg(1),
        "train/a/2.jpg": jpeg(2),
        "train/b/2.jpg": jpeg(2),
        "train/a/3.jpg": jpeg(3),
        "val/b/3.jpg": jpeg(3),
        "val/b/3 again.jpg": jpeg(3),
    }
    assert told(verified(tmp_path, files)) == [
        (["train/a/1.jpg", "val/a/one.jpg"], True, True, False),
        (["train/a/2.jpg", "train/b/2.jpg"], True, False, True),
        (["train/a/3.jpg", "val/b/3 again.jpg", "val/b/3.jpg"], True, True, True),
    ]


def test_twice_in_one_class_of_one_split_harms_nobody(tmp_path):
    assert verified(tmp_path, {"train/a/1.jpg": jpeg(1), "train/a/2.jpg": jpeg(1)}) == ()


def test_the_same_crc_and_length_is_not_yet_the_same_image(tmp_path):
    """Four bytes behind the end of a JPEG can give it any CRC."""
    target = jpeg(1) + b" " * 40
    other = jpeg(2, quality=60)
    other += b" " * (len(target) - 4 - len(other))
    files = {"train/a/1.jpg": target, "val/a/1.jpg": other + _patch(other, target)}
    assert len(files["train/a/1.jpg"]) == len(files["val/a/1.jpg"])
    assert files["train/a/1.jpg"] != files["val/a/1.jpg"]
    assert verified(tmp_path, files) == ()


def _patch(data, target):
    """Four bytes that, behind `data`, give the CRC of `target`: CRC is linear, so 32 equations are solved."""
    import zlib

    empty = zlib.crc32(data + bytes(4))
    wanted = empty ^ zlib.crc32(target)
    rows = [(zlib.crc32(data + (1 << bit).to_bytes(4, "little")) ^ empty, 1 << bit) for bit in range(32)]
    solution = 0
    for bit in range(32):
        at = next(n for n, (value, _) in enumerate(rows) if value >> bit & 1)
        value, mask = rows.pop(at)
        rows = [(v ^ value, m ^ mask) if v >> bit & 1 else (v, m) for v, m in rows]
        if wanted >> bit & 1:
            wanted, solution = wanted ^ value, solution ^ mask
    return solution.to_bytes(4, "little")


def test_a_bad_image_is_no_duplicate(tmp_path):
    for split in ("train", "val"):
        (tmp_path / split / "a").mkdir(parents=True)
        (tmp_path / split / "a" / "good.jpg").write_bytes(jpeg(7 + (split == "val")))
        (tmp_path / split / "a" / "bad.jpg").write_bytes(b"<html>")
    prepare(tmp_path)
    report = verify(tmp_path, workers=0)
    assert len(report.bad) == 2
    assert report.duplicates == ()


def test_with_a_sample_nothing_is_looked_for(tmp_path):
    assert verified(tmp_path, {"train/a/1.jpg": jpeg(1), "val/a/1.jpg": jpeg(1)}, sample=3) == ()


def test_smaller_and_worse_is_nearly_the_same(tmp_path):
    files = {
        "train/a/1.jpg": jpeg(1, quality=95),
        "val/a/1.jpg": jpeg(1, quality=60, size=(100, 80)),
        "train/a/2.jpg": jpeg(2),
        "val/a/2.jpg": jpeg(2),
    }
    assert told(verified(tmp_path, files)) == [(["train/a/2.jpg", "val/a/2.jpg"], True, True, False)]
    assert told(verify(tmp_path, workers=2, near=True).duplicates) == [
        (["train/a/2.jpg", "val/a/2.jpg"], True, True, False),
        (["train/a/1.jpg", "val/a/1.jpg"], False, True, False),
    ]


def test_image_files_of_a_single_colour_are_not_alike(tmp_path):
    def flat(colour):
        file = io.BytesIO()
        Image.new("RGB", (64, 64), colour).save(file, "PNG")
        return file.getvalue()

    assert verified(tmp_path, {"train/a/red.png": flat("red"), "val/a/blue.png": flat("blue")}, near=True) == ()


def test_other_pictures_are_far_apart():
    hashes = [perceptual_hash(tile(seed, 120, 90)) for seed in range(40)]
    assert min((a ^ b).bit_count() for a, b in combinations(hashes, 2)) > 2 * MOST_DIFFERENT


def test_every_near_pair_is_found():
    """Against comparing all with all."""
    generator = np.random.default_rng(0)
    base = generator.integers(0, 1 << 64, 300, np.uint64, endpoint=False)
    flips = [sum(1 << int(bit) for bit in generator.choice(64, n % 6, replace=False)) for n in range(len(base))]
    near = [b ^ flip for b, flip in zip(base.tolist(), flips, strict=True)]
    hashes = np.unique(np.concatenate([base, np.array(near, np.uint64)]))
    values = hashes.tolist()
    pairs = combinations(range(len(values)), 2)
    expected = {(i, j) for i, j in pairs if (values[i] ^ values[j]).bit_count() <= MOST_DIFFERENT}
    assert len(expected) > 100
    assert {(min(pair), max(pair)) for pair in near_pairs(hashes)} == expected


def test_a_hundred_thousand_hashes_take_a_moment():
    hashes = np.unique(np.random.default_rng(0).integers(0, 1 << 64, 100_000, np.uint64, endpoint=False))
    began = time.process_time()
    assert list(near_pairs(hashes)) == []
    assert time.process_time() - began < 5  # all with all would be five thousand million


def test_without_imagehash(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "imagehash", None)
    with pytest.raises(ResnetctlError, match="package imagehash") as raised:
        verify(tmp_path, workers=0, near=True)
    assert raised.value.hint == "pip install 'resnetctl[near]'"
