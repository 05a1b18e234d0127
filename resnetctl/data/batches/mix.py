"""Mixup and cutmix on the device, as pure functions of (seed, step, micro-batch).

Images are mixed with a partner from the same micro-batch. Micro-batches are numbered over the whole global batch
(rank · micro-batches of a rank + own number), so the draws do not depend on how many ranks share the work.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch

from resnetctl.data.batches.order import MIX, sequence
from resnetctl.recipe import TrainRecipe


class Mix(NamedTuple):
    """How a micro-batch is mixed."""

    share: float
    """Weight of the image itself; its partner has the rest."""
    box: tuple[int, int, int, int] | None
    """Cutmix: top, left, bottom, right of the partner's box; None: mixup."""
    style: str
    """How images are paired: "torchvision", with the one before; "timm", with the one as far from the end."""


def draw_mix(train: TrainRecipe, step: int, micro_batch: int, size: int) -> Mix | None:
    """How micro-batch number `micro_batch` of `step`, `size` × `size` pixels, is mixed; None: not mixed.

    The share is from Beta(α, α), α being `mixup_alpha` (Zhang et al. 2017, arXiv:1710.09412) or `cutmix_alpha` (Yun et
    al. 2019, arXiv:1905.04899). 0 turns one off; if both are above 0, each is used half of the time.
    """
    mixup, cutmix, style = train.mixup_alpha, train.cutmix_alpha, train.mix_style
    if not mixup and not cutmix:
        return None
    numbers = sequence(train.seed, MIX, step, micro_batch)
    cut = next(numbers) < 0.5 if mixup and cutmix else bool(cutmix)
    if not cut:
        return Mix(_beta(mixup, numbers), None, style)
    y, x = int(next(numbers) * size), int(next(numbers) * size)
    share = _beta(cutmix, numbers)
    if style == "timm":
        side = int(size * math.sqrt(1.0 - share))
        before, after = side // 2, (side + 1) // 2
    else:
        before = after = int(0.5 * math.sqrt(1.0 - share) * size)
    top, left = max(y - before, 0), max(x - before, 0)
    bottom, right = min(y + after, size), min(x + after, size)
    return Mix(1.0 - (bottom - top) * (right - left) / size**2, (top, left, bottom, right), style)


def _beta(alpha: float, numbers: Iterator[float]) -> float:
    """One number from Beta(alpha, alpha), by Jöhnk's method (1964), in logarithms: alpha may be small."""
    while True:
        x, y = (math.log(1.0 - next(numbers)) / alpha for _ in range(2))
        if math.exp(x) + math.exp(y) <= 1.0:
            return 1.0 / (1.0 + math.exp(min(y - x, 700.0)))


def mix_images(images: torch.Tensor, mix: Mix) -> torch.Tensor:
    """`[B, 3, H, W]` float, each image mixed with its partner, without synchronising the device."""
    other = _partners(images, mix)
    if mix.box is None:
        return torch.lerp(other, images, mix.share)
    top, left, bottom, right = mix.box
    images = images.clone()
    images[:, :, top:bottom, left:right] = other[:, :, top:bottom, left:right]
    return images


def mix_targets(labels: torch.Tensor, classes: int, mix: Mix) -> torch.Tensor:
    """`labels [B] int64` as `[B, classes] float32`: each image's shares of its own and its partner's class."""
    targets = shares_of(labels, classes)
    return torch.lerp(_partners(targets, mix), targets, mix.share)


def shares_of(labels: torch.Tensor, classes: int) -> torch.Tensor:
    """`labels [B] int64` as `[B, classes] float32`, 1 for its class; torch's one_hot would read the values."""
    return (labels[:, None] == torch.arange(classes, device=labels.device)).float()


def _partners(batch: torch.Tensor, mix: Mix) -> torch.Tensor:
    # torch.roll would give up channels last
    return batch.flip(0) if mix.style == "timm" else torch.cat((batch[-1:], batch[:-1]))
