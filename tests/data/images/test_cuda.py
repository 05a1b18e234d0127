"""Decoding, cutting and resizing on a device: on a CPU, the same function; on a GPU, how far its pixels are off."""

import io

import numpy as np
import pytest
import torch

from resnetctl.data.images.cuda import decode_crops
from resnetctl.data.images.decode import decode, resize
from resnetctl.data.images.unturned import unturned
from resnetctl.errors import DataError
from tests.fixtures.photos import jpeg, tile

CPU = torch.device("cpu")


def crops(count: int) -> tuple[list[torch.Tensor], list[list[int]], list[bool]]:
    """Photographs of many sizes as bytes, a box in each, and whether it is mirrored."""
    rng = np.random.default_rng(1)
    files, boxes = [], []
    for number in range(count):
        w, h = (int(n) for n in rng.integers(20, 500, 2))
        file = io.BytesIO()
        options = {"quality": (75, 92)[number % 2], "progressive": number % 5 == 4}
        tile(number, w, h).save(file, "JPEG", subsampling=("4:2:0", "4:4:4")[number % 3 // 2], **options)
        files.append(torch.frombuffer(unturned(file.getvalue()), dtype=torch.uint8))
        height, width = int(rng.integers(1, h + 1)), int(rng.integers(1, w + 1))
        boxes.append([int(rng.integers(h - height + 1)), int(rng.integers(w - width + 1)), height, width])
    return files, boxes, [number % 2 == 0 for number in range(count)]


def as_elsewhere(file: torch.Tensor, box: list[int], flip: bool, size: int, interpolation: str) -> torch.Tensor:
    top, left, height, width = box
    crop = decode(file.numpy().tobytes())[:, top : top + height, left : left + width]
    crop = resize(crop, size, size, interpolation)
    return crop.flip(2) if flip else crop


@pytest.mark.parametrize(("interpolation", "most"), [("bilinear", 1), ("bicubic", 16)])
@pytest.mark.parametrize("size", [64, 224])
def test_on_a_cpu_only_the_resizing_differs(size, interpolation, most):
    files, boxes, flips = crops(40)
    images = decode_crops(files, boxes, flips, size=size, interpolation=interpolation, device=CPU)
    assert images.shape == (40, 3, size, size)
    assert images.is_contiguous(memory_format=torch.channels_last)
    expected = torch.stack([as_elsewhere(*each, size, interpolation) for each in zip(files, boxes, flips, strict=True)])
    difference = (images.int() - expected.int()).abs()
    assert difference.max() <= most
    assert difference.float().mean() < 0.3


def test_of_no_files():
    images = decode_crops([], [], [], size=32, interpolation="bilinear", device=CPU)
    assert images.shape == (0, 3, 32, 32)


def test_a_broken_file_is_told_with_the_way_out():
    good, broken = jpeg(tile(1, 80, 60)), b"\xff\xd8" + bytes(100)
    files = [torch.frombuffer(bytearray(data), dtype=torch.uint8) for data in (good, broken)]
    with pytest.raises(DataError, match="decoding on the GPU has no substitutes") as caught:
        decode_crops(files, [[0, 0, 60, 80]] * 2, [False] * 2, size=32, interpolation="bilinear", device=CPU)
    assert "data.decoder=auto" in caught.value.hint


@pytest.mark.gpu
def test_on_a_gpu_the_pixels_are_close(capsys):
    device = torch.device("cuda")
    files, boxes, flips = crops(200)
    there = decode_crops(files, boxes, flips, size=224, interpolation="bilinear", device=device).cpu()
    here = decode_crops(files, boxes, flips, size=224, interpolation="bilinear", device=CPU)
    difference = (there.int() - here.int()).abs().float()
    with capsys.disabled():
        print(f"nvJPEG: mean difference {difference.mean():.3f}, largest {int(difference.max())} of 255")
    assert difference.mean(dim=(1, 2, 3)).max() < 2
