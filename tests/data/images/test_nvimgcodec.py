"""The optional decoder gives the others' pixels, and leaves to them what it must not judge."""

import io
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from resnetctl.data.batches.loader import load
from resnetctl.data.batches.train import TrainBatches, TrainView
from resnetctl.data.images import nvimgcodec
from resnetctl.data.images.decode import decode
from resnetctl.recipe import DataRecipe, TrainRecipe
from tests.fixtures.photos import jpeg, tile

installed = pytest.mark.skipif(nvimgcodec.why_not() is not None, reason="needs the extra nvimgcodec")


@installed
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize("kind", [{}, {"progressive": True}, {"restart_marker_rows": 1}])
def test_every_region_has_the_pixels_of_the_whole(subsampling, kind):
    rng = np.random.default_rng(0)
    for number in range(12):
        w, h = (int(n) for n in rng.integers(16, 400, 2))
        file = io.BytesIO()
        tile(number, w, h).save(file, "JPEG", quality=90, subsampling=subsampling, **kind)
        whole = decode(file.getvalue())
        for _ in range(4):
            height, width = int(rng.integers(1, h + 1)), int(rng.integers(1, w + 1))
            top, left = int(rng.integers(h - height + 1)), int(rng.integers(w - width + 1))
            part = nvimgcodec.decode_region(file.getvalue(), (h, w), (top, left, height, width))
            assert part is not None
            assert torch.equal(part, whole[:, top : top + height, left : left + width])


@installed
def test_what_it_does_not_judge():
    data = jpeg(tile(0, 100, 80))
    box = (0, 0, 8, 8)
    assert nvimgcodec.decode_region(data, (80, 100), box) is not None
    assert nvimgcodec.decode_region(data[:-200], (80, 100), box) is None, "cut short below the crop"
    assert nvimgcodec.decode_region(data, (81, 100), box) is None, "not the size that the index has"
    assert nvimgcodec.decode_region(jpeg(tile(0, 100, 80).convert("L")), (80, 100), box) is None, "gray"
    assert nvimgcodec.decode_region(jpeg(tile(0, 100, 80).convert("CMYK")), (80, 100), box) is None, "CMYK"
    assert nvimgcodec.decode_region(b"\xff\xd8garbage\xff\xd9", (80, 100), box) is None


@installed
def test_the_loaders_batches_are_the_same(tmp_path):
    from tests.benchmarks.datasets import index_folders

    for split, count in (("train", 12), ("val", 2)):
        for i in range(count):
            path = tmp_path / "photos" / split / f"c{i % 2}" / f"{i}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            picture = tile(i, 90 + 7 * i, 140 - 5 * i)
            path.write_bytes(jpeg(picture.convert("L") if i == 3 else picture))
    index = index_folders(tmp_path / "photos", tmp_path)
    nvimgcodec._codec(os.getpid())  # a decoder that the workers must not inherit
    seen = []
    for decoder in ("torchcodec", "nvimgcodec"):
        view = TrainView(
            index=index,
            data=DataRecipe(train_size=64),
            train=TrainRecipe(seed=3, epochs=2, global_batch=8),
            micro_batch=4,
            decoder=decoder,
        )
        seen.append([b.images.clone() for b in load(TrainBatches(view), range(6), workers=2, pin=False)])
    assert all(torch.equal(a, b) for a, b in zip(*seen, strict=True))


@pytest.mark.parametrize(("version", "too_old"), [("0.8.0", True), ("0.9.0", False), ("0.10.1", False), ("1.0", False)])
@installed
def test_the_version_is_checked(version, too_old, monkeypatch):
    monkeypatch.setattr(nvimgcodec, "version", lambda: version)
    nvimgcodec.why_not.cache_clear()
    try:
        why_not = nvimgcodec.why_not()
    finally:
        nvimgcodec.why_not.cache_clear()
    assert why_not == (f"it is version {version}, and 0.9 or later is needed" if too_old else None)


def test_one_that_is_not_there(monkeypatch):
    monkeypatch.setattr(nvimgcodec, "is_installed", lambda: False)
    nvimgcodec.why_not.cache_clear()
    try:
        assert nvimgcodec.why_not() == "it is not installed"
    finally:
        nvimgcodec.why_not.cache_clear()


@installed
def test_it_says_nothing_on_the_terminal():
    program = "from resnetctl.data.images import nvimgcodec; assert nvimgcodec.why_not() is None"
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert told.stdout + told.stderr == ""
