"""Random crops and flips as pure functions of (seed, epoch, sample), computed for a whole batch at once."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from resnetctl.data.batches.order import AUGMENT, uniforms

_TRIES = 10  # as torchvision.transforms.RandomResizedCrop
_DRAWS = 2 * _TRIES + 3


class Draws(NamedTuple):
    """What chance decides for N samples."""

    box: np.ndarray
    """`[N, 4] int64`: top, left, height, width in pixels."""
    flip: np.ndarray
    """`[N] bool`: mirror left to right."""


def draw(
    seed: int,
    epoch: np.ndarray,
    sample: np.ndarray,
    height: np.ndarray,
    width: np.ndarray,
    *,
    scale: tuple[float, float],
    ratio: tuple[float, float],
    hflip: float,
) -> Draws:
    """Crop box and flip for each of N samples; all arguments but the last three are `[N]` and sizes are in pixels.

    The distribution is that of torchvision's RandomResizedCrop (Szegedy et al. 2014, arXiv:1409.4842): an area in
    `scale` of the picture, an aspect ratio log-uniform in `ratio`, ten tries, then the largest central crop in ratio.
    """
    numbers = np.empty((_DRAWS, len(sample)))
    for e in np.unique(epoch):
        here = epoch == e
        numbers[:, here] = uniforms(seed, AUGMENT, int(e), sample[here], _DRAWS)
    box = _boxes(numbers, height.astype(np.int64), width.astype(np.int64), scale, ratio)
    return Draws(box, numbers[-1] < hflip)


def _boxes(
    u: np.ndarray, height: np.ndarray, width: np.ndarray, scale: tuple[float, float], ratio: tuple[float, float]
) -> np.ndarray:
    area = (height * width) * (scale[0] + (scale[1] - scale[0]) * u[:_TRIES])
    low, high = math.log(ratio[0]), math.log(ratio[1])
    aspect = np.exp(low + (high - low) * u[_TRIES : 2 * _TRIES])
    w = np.rint(np.sqrt(area * aspect)).astype(np.int64)
    h = np.rint(np.sqrt(area / aspect)).astype(np.int64)
    fits = (w > 0) & (w <= width) & (h > 0) & (h <= height)
    first = fits.argmax(0)
    n = np.arange(len(height))
    h, w = h[first, n], w[first, n]
    top = np.floor(u[2 * _TRIES] * (height - h + 1)).astype(np.int64)
    left = np.floor(u[2 * _TRIES + 1] * (width - w + 1)).astype(np.int64)
    none = ~fits.any(0)
    if none.any():
        fall_back = _central(height[none], width[none], ratio)
        top[none], left[none], h[none], w[none] = fall_back
    return np.stack((top, left, h, w), 1)


def _central(
    height: np.ndarray, width: np.ndarray, ratio: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    shape = width / height
    h = np.where(shape < ratio[0], np.rint(width / ratio[0]), height).astype(np.int64)
    w = np.where(shape > ratio[1], np.rint(height * ratio[1]), width).astype(np.int64)
    h, w = np.clip(h, 1, height), np.clip(w, 1, width)
    return (height - h) // 2, (width - w) // 2, h, w
