"""Normalising against torchvision's own."""

import pytest
import torch
from torchvision.transforms import v2

from resnetctl.engine.normalise import Normalise, erase

CPU = torch.device("cpu")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_all_values_are_torchvisions(layout):
    images = torch.arange(256, dtype=torch.uint8).repeat(2, 3, 3, 1).contiguous(memory_format=layout)
    ours = Normalise(MEAN, STD, CPU)(images)
    theirs = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)])(images)
    assert ours.dtype == torch.float32
    assert ours.is_contiguous(memory_format=layout)
    assert torch.allclose(ours, theirs, rtol=1e-5, atol=2e-6)


def test_black_and_white():
    ends = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).repeat(1, 3, 1, 1)
    black, white = Normalise(MEAN, STD, CPU)(ends)
    assert black.flatten().tolist() == pytest.approx([-m / s for m, s in zip(MEAN, STD, strict=True)], rel=1e-6)
    assert white.flatten().tolist() == pytest.approx([(1 - m) / s for m, s in zip(MEAN, STD, strict=True)], rel=1e-6)


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_erased_as_torchvision_does(layout):
    images = torch.randn(3, 3, 20, 20, generator=torch.Generator().manual_seed(0)).contiguous(memory_format=layout)
    boxes = [(3, 5, 7, 2), (0, 0, 0, 0), (13, 0, 7, 19)]
    expected = torch.stack([v2.functional.erase(i, *box, torch.zeros(1)) for i, box in zip(images, boxes, strict=True)])
    erase(images, torch.tensor(boxes))
    assert torch.equal(images, expected)
    assert images.is_contiguous(memory_format=layout)
