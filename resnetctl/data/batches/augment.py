"""Crops, flips and erased boxes as pure functions of (seed, epoch, sample, repetition), for a whole batch at once."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from resnetctl.data.batches.order import AUGMENT, ERASE, Samples, uniforms

_TRIES = 10  # as torchvision.transforms.RandomResizedCrop
_DRAWS = 2 * _TRIES + 3


class Draws(NamedTuple):
    """The random draws for N samples."""

    box: np.ndarray
    """`[N, 4] int64`: top, left, height, width in pixels."""
    flip: np.ndarray
    """`[N] bool`: mirror left to right."""


def draw(
    seed: int,
    samples: Samples,
    height: np.ndarray,
    width: np.ndarray,
    *,
    scale: tuple[float, float],
    ratio: tuple[float, float],
    hflip: float,
) -> Draws:
    """Crop box and flip for each of N samples; `height` and `width` are `[N]`, in pixels.

    The distribution is that of torchvision's RandomResizedCrop (Szegedy et al. 2014, arXiv:1409.4842): an area in
    `scale` of the image, an aspect ratio log-uniform in `ratio`, ten tries, then the largest central crop in ratio.
    """
    u = uniforms(seed, AUGMENT, samples, _DRAWS)
    height, width = height.astype(np.int64), width.astype(np.int64)
    w, h = _tries(u, height * width, scale, ratio)
    fits = (w > 0) & (w <= width) & (h > 0) & (h <= height)
    box = _placed(u, _first(h, fits), _first(w, fits), height, width)
    none = ~fits.any(0)
    if none.any():
        box[none] = _central(height[none], width[none], ratio)
    return Draws(box, u[-1] < hflip)


def draw_erased(seed: int, samples: Samples, size: int, probability: float) -> np.ndarray:
    """The box erased from each sample of `size` × `size` pixels, `[N, 4] int64`: top, left, height, width, or zeros.

    The distribution is that of torchvision's RandomErasing (Zhong et al. 2017, arXiv:1708.04896): 2 to 33 % of the
    area, height / width log-uniform from 0.3 to 3.3, ten tries, and nothing if none fits.
    """
    u = uniforms(seed, ERASE, samples, _DRAWS)
    side = np.full(len(samples.sample), size)
    h, w = _tries(u, side * side, (0.02, 0.33), (0.3, 3.3))
    fits = (h < size) & (w < size)
    box = _placed(u, _first(h, fits), _first(w, fits), side, side)
    return np.where((fits.any(0) & (u[-1] < probability))[:, None], box, 0)


def _tries(
    u: np.ndarray, whole: np.ndarray, scale: tuple[float, float], ratio: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """The sides of ten rectangles, with an area in `scale` of `whole` and first side / second side in `ratio`."""
    area = whole * (scale[0] + (scale[1] - scale[0]) * u[:_TRIES])
    low, high = math.log(ratio[0]), math.log(ratio[1])
    aspect = np.exp(low + (high - low) * u[_TRIES : 2 * _TRIES])
    return np.rint(np.sqrt(area * aspect)).astype(np.int64), np.rint(np.sqrt(area / aspect)).astype(np.int64)


def _first(tries: np.ndarray, fits: np.ndarray) -> np.ndarray:
    return tries[fits.argmax(0), np.arange(tries.shape[1])]


def _placed(u: np.ndarray, h: np.ndarray, w: np.ndarray, height: np.ndarray, width: np.ndarray) -> np.ndarray:
    """Rectangles of `h` × `w` anywhere in `height` × `width`, `[N, 4] int64`."""
    top = np.floor(u[2 * _TRIES] * (height - h + 1)).astype(np.int64)
    left = np.floor(u[2 * _TRIES + 1] * (width - w + 1)).astype(np.int64)
    return np.stack((top, left, h, w), 1)


def _central(height: np.ndarray, width: np.ndarray, ratio: tuple[float, float]) -> np.ndarray:
    shape = width / height
    h = np.where(shape < ratio[0], np.rint(width / ratio[0]), height).astype(np.int64)
    w = np.where(shape > ratio[1], np.rint(height * ratio[1]), width).astype(np.int64)
    h, w = np.maximum(h, 1), np.maximum(w, 1)
    return np.stack(((height - h) // 2, (width - w) // 2, h, w), 1)
