"""The operations of automatic augmentation on uint8 pictures: the pixels of Pillow, on whose images torchvision's
reference training and timm work.

Nearly all are Pillow's own, bit for bit. Shears and translations by parts of a pixel, which Pillow computes as it does
any affine map, are computed row by row in a third of its time or less, and differ from it by at most 1 of 255.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageOps

Color = tuple[int, int, int]


class Operation(NamedTuple):
    """One operation on one picture."""

    name: str
    """A key of OPERATIONS."""
    argument: float = 0.0
    """Degrees, bits kept, a threshold, a factor (1 changes nothing), a slope, or pixels to the left or up."""
    interpolation: str = "bilinear"
    """How rotations, shears and translations read between pixels: "bilinear" or "bicubic"."""


def apply(pixels: np.ndarray, operations: Sequence[Operation], fill: Color) -> np.ndarray:
    """`operations` one after the other on `[H, W, 3] uint8`, contiguous; `fill` is what shows beyond the border."""
    if not operations:
        return pixels
    image = Image.frombuffer("RGB", pixels.shape[1::-1], pixels, "raw", "RGB", 0, 1)
    for operation in operations:
        image = OPERATIONS[operation.name](image, operation, fill)
    return np.asarray(image)


_RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def _slide(image: Image.Image, slope: float, offset: float, interpolation: str, fill: Color) -> Image.Image:
    """Each row y moved to the left by slope · (y + 0.5) + offset pixels.

    What `Image.transform` gives for (1, slope, offset, 0, 1, 0). A pixel is weighted from 2 (4, bicubic) neighbours in
    its row: centre + Σ weight · (neighbour − centre), which leaves an even colour exactly as it is.
    """
    width, height = image.size
    move = slope * (np.arange(height) + 0.5) + offset
    whole = np.floor(move)
    d = torch.from_numpy(move - whole)[:, None]
    if interpolation == "bicubic":  # Pillow's cubic, with a = -1
        weights = {-1: -d + 2 * d**2 - d**3, 1: d + d**2 - d**3, 2: d**3 - d**2}
    else:
        weights = {1: d}
    first, last = min(0, *weights), max(weights)
    columns = np.arange(first, width + last) + whole.astype(np.int64)[:, None]
    places = columns.clip(0, width - 1) + np.arange(0, height * width, width)[:, None]
    pixels = np.frombuffer(image.tobytes("raw", "RGBX"), np.uint32).take(places)
    values = torch.from_numpy(pixels.view(np.uint8)).float()  # [H, (W + taps - 1) * 4]
    centre = values[:, -4 * first : 4 * (width - first)]
    moved = centre.clone()
    for tap, weight in weights.items():
        moved.addcmul_(values[:, 4 * (tap - first) : 4 * (tap - first + width)] - centre, weight.float())
    result = moved.clamp_(0, 255).numpy().astype(np.uint8).view(np.uint32)
    x = np.arange(width)
    beyond = (x < np.ceil(-0.5 - move)[:, None]) | (x >= np.ceil(width - 0.5 - move)[:, None])
    np.copyto(result, np.array([*fill, 255], np.uint8).view(np.uint32), where=beyond)
    return Image.frombytes("RGB", image.size, result, "raw", "RGBX", 0, 1)


def _slide_columns(image: Image.Image, slope: float, offset: float, interpolation: str, fill: Color) -> Image.Image:
    turn = Image.Transpose.TRANSPOSE
    return _slide(image.transpose(turn), slope, offset, interpolation, fill).transpose(turn)


def _posterize(image: Image.Image, bits: int) -> Image.Image:
    mask = 256 - (1 << 8 - bits)  # 0 bits, which Pillow refuses since version 13, leave black
    return image.point([i & mask for i in range(256)] * 3)


def _solarize(image: Image.Image, threshold: float) -> Image.Image:
    return image.point([i if i < threshold else 255 - i for i in range(256)] * 3)


def _solarize_add(image: Image.Image, add: int) -> Image.Image:
    return image.point([min(255, i + add) if i < 128 else i for i in range(256)] * 3)


def _hue(image: Image.Image, turn: float) -> Image.Image:
    h, s, v = image.convert("HSV").split()
    h = h.point([(i + int(turn * 255)) % 256 for i in range(256)])
    return Image.merge("HSV", (h, s, v)).convert("RGB")


OPERATIONS: dict[str, Callable[[Image.Image, Operation, Color], Image.Image]] = {
    "auto-contrast": lambda image, o, fill: ImageOps.autocontrast(image),
    "equalize": lambda image, o, fill: ImageOps.equalize(image),
    "invert": lambda image, o, fill: ImageOps.invert(image),
    "posterize": lambda image, o, fill: _posterize(image, int(o.argument)),
    "solarize": lambda image, o, fill: _solarize(image, o.argument),
    "solarize-add": lambda image, o, fill: _solarize_add(image, int(o.argument)),
    "color": lambda image, o, fill: ImageEnhance.Color(image).enhance(o.argument),
    "contrast": lambda image, o, fill: ImageEnhance.Contrast(image).enhance(o.argument),
    "brightness": lambda image, o, fill: ImageEnhance.Brightness(image).enhance(o.argument),
    "sharpness": lambda image, o, fill: ImageEnhance.Sharpness(image).enhance(o.argument),
    "hue": lambda image, o, fill: _hue(image, o.argument),
    "rotate": lambda image, o, fill: image.rotate(o.argument, _RESAMPLING[o.interpolation], fillcolor=fill),
    "shear-x": lambda image, o, fill: _slide(image, o.argument, 0.0, o.interpolation, fill),
    "shear-y": lambda image, o, fill: _slide_columns(image, o.argument, 0.0, o.interpolation, fill),
    "translate-x": lambda image, o, fill: _slide(image, 0.0, o.argument, o.interpolation, fill),
    "translate-y": lambda image, o, fill: _slide_columns(image, 0.0, o.argument, o.interpolation, fill),
}
