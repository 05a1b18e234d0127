"""The operations of automatic augmentation on uint8 images, with the pixels of Pillow, which torchvision's reference
training and timm use.

All are bit for bit Pillow's, except shears and translations by fractions of a pixel, which differ by at most 1 of 255.
Pillow is called where it is fast. Its slow operations are done here, a whole image at a time: pointwise changes go
through a table of 256 bytes, and moves copy or mix whole rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.lib.stride_tricks import as_strided
from PIL import Image, ImageOps

Color = tuple[int, int, int]


class Operation(NamedTuple):
    """One operation on one image."""

    name: str
    """A key of OPERATIONS."""
    argument: float = 0.0
    """Degrees, bits kept, a threshold, a factor (1 changes nothing), a slope, or pixels to the left or up."""
    interpolation: str = "bilinear"
    """Interpolation of rotations, shears and translations: "bilinear" or "bicubic"."""


def apply(pixels: np.ndarray, operations: Sequence[Operation], fill: Color) -> np.ndarray:
    """`operations` one after the other on `[H, W, 3] uint8`, contiguous; `fill` is the colour beyond the border."""
    for operation in operations:
        pixels = OPERATIONS[operation.name](pixels, operation, fill)
    return pixels


def _pillow(pixels: np.ndarray) -> Image.Image:
    return Image.frombuffer("RGB", pixels.shape[1::-1], pixels, "raw", "RGB", 0, 1)


# --- pointwise ------------------------------------------------------------------------------------------------------

_VALUES = np.arange(256)


def _through(pixels: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Each value replaced through `table [256] uint8`."""
    return np.frombuffer(bytearray(pixels).translate(table.tobytes()), np.uint8).reshape(pixels.shape)


def _posterize(pixels: np.ndarray, bits: int) -> np.ndarray:
    return pixels & np.uint8(256 - (1 << 8 - bits))  # 0 bits, which Pillow refuses since version 13, give black


def _solarize(pixels: np.ndarray, threshold: float) -> np.ndarray:
    return _through(pixels, np.where(threshold > _VALUES, _VALUES, 255 - _VALUES).astype(np.uint8))


def _solarize_add(pixels: np.ndarray, add: int) -> np.ndarray:
    return _through(pixels, np.where(_VALUES < 128, np.minimum(255, _VALUES + add), _VALUES).astype(np.uint8))


def _auto_contrast(pixels: np.ndarray) -> np.ndarray:
    rows = pixels.reshape(len(pixels), -1)
    low, high = (x.reshape(-1, 3).astype(float) for x in (rows.min(0), rows.max(0)))
    low, high = low.min(0), high.max(0)
    same = (low == 0) & (high == 255) | (low >= high)
    if same.all():
        return pixels  # as for most photographs
    scale = np.where(same, 1.0, 255.0 / np.maximum(high - low, 1))
    table = _VALUES[:, None] * scale - np.where(same, 0.0, low * scale)
    return np.asarray(_pillow(pixels).point(table.clip(0, 255).astype(np.uint8).T.ravel().tolist()))


# --- blended with another image, as in Pillow's ImageEnhance --------------------------------------------------------


def _blend(other: np.ndarray, pixels: np.ndarray, factor: float) -> np.ndarray:
    """other + factor · (pixels − other), clipped to 0 … 255 and truncated: Pillow's blend."""
    base = other.astype(np.int16)
    mixed = (pixels - base).astype(np.float32)
    mixed *= factor
    mixed += base
    return mixed.clip(0, 255, out=mixed).astype(np.uint8)


def _brightness(pixels: np.ndarray, factor: float) -> np.ndarray:
    return _through(pixels, _blend(np.zeros(256, np.uint8), _VALUES.astype(np.uint8), factor))


def _contrast(pixels: np.ndarray, factor: float) -> np.ndarray:
    histogram = np.array(_pillow(pixels).convert("L").histogram())
    mean = int((histogram * _VALUES).sum() / histogram.sum() + 0.5)
    return _through(pixels, _blend(np.full(256, mean, np.uint8), _VALUES.astype(np.uint8), factor))


def _color(pixels: np.ndarray, factor: float) -> np.ndarray:
    return _blend(np.asarray(_pillow(pixels).convert("L").convert("RGB")), pixels, factor)


def _sharpness(pixels: np.ndarray, factor: float) -> np.ndarray:
    """Blended with the mean of 3 × 3 pixels, the centre weighted five times; the border stays."""
    height, width, _ = pixels.shape
    if min(height, width) < 3:
        return pixels
    rows = pixels.reshape(height, -1)
    wide = rows.astype(np.uint16)
    three = wide[:, :-6] + wide[:, 3:-3]
    three += wide[:, 6:]
    sums = three[:-2] + three[1:-1]
    sums += three[2:]
    sums += wide[1:-1, 3:-3] << 2
    sums += 6  # to round to the nearest when divided by 13
    smooth = (sums // np.uint16(13)).astype(np.uint8)
    result = rows.copy()
    result[1:-1, 3:-3] = _blend(smooth, rows[1:-1, 3:-3], factor)
    return result.reshape(pixels.shape)


def _hue(pixels: np.ndarray, turn: float) -> np.ndarray:
    h, s, v = _pillow(pixels).convert("HSV").split()
    h = h.point([(i + int(turn * 255)) % 256 for i in range(256)])
    return np.asarray(Image.merge("HSV", (h, s, v)).convert("RGB"))


# --- moved ----------------------------------------------------------------------------------------------------------

_RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
_EDGE = 2  # positions beyond a row's ends that interpolation may read


def _slide(rows: np.ndarray, move: np.ndarray, interpolation: str, fill: np.ndarray) -> np.ndarray:
    """Each row of `rows [R, L, C] uint8` moved `move [R]` positions to the left, filled with `fill [C]`.

    A position is a weighted sum of 2 (4, bicubic) neighbours in its row: centre + Σ weight · (neighbour − centre),
    which leaves a uniform colour exactly as it is.
    """
    _, length, channels = rows.shape
    whole = np.floor(move)
    d = torch.from_numpy(move - whole)[:, None]
    weights: dict[int, torch.Tensor] = {}
    if d.any():
        weights = {1: d}
        if interpolation == "bicubic":  # Pillow's cubic, with a = -1
            weights = {-1: -d + 2 * d**2 - d**3, 1: d + d**2 - d**3, 2: d**3 - d**2}
    first, last = min(0, 0, *weights), max(0, 0, *weights)
    read = _read(rows, whole.astype(np.int64) + first, length + last - first)
    centre = read[:, -first * channels : (length - first) * channels]
    if weights:
        values = torch.from_numpy(read).float()
        middle = values[:, -first * channels : (length - first) * channels]
        moved = middle.clone()
        for tap, weight in weights.items():
            begin = (tap - first) * channels
            moved.addcmul_(values[:, begin : begin + length * channels] - middle, weight.float())
        centre = moved.clamp_(0, 255).numpy().astype(np.uint8)
    start = np.ceil(-0.5 - move).astype(np.int64).clip(-length, length)
    # each row with fill on both sides, read from the offset of its first position
    inside = np.zeros((3, length, channels), np.uint8)
    inside[1] = 255
    result = centre & _parts(inside.ravel(), (length - start) * channels, length * channels)
    if fill.any():
        around = np.tile(fill, (3, length, 1))
        around[1] = 0
        result |= _parts(around.ravel(), (length - start) * channels, length * channels)
    return result.reshape(rows.shape)


def _read(rows: np.ndarray, begin: np.ndarray, places: int) -> np.ndarray:
    """`[R, places · C]`: each row from position `begin [R]` on, its first and last positions repeated a little.

    Positions farther out are arbitrary.
    """
    count, length, channels = rows.shape
    begin = begin.clip(-length - _EDGE, length)
    pitch = length + 2 * _EDGE
    flat = np.empty((count * pitch + 2 * places) * channels, np.uint8)  # room at both ends, whatever the move
    padded = flat[places * channels : (places + count * pitch) * channels].reshape(count, pitch, channels)
    padded[:, _EDGE:-_EDGE] = rows
    padded[:, :_EDGE], padded[:, -_EDGE:] = rows[:, :1], rows[:, -1:]
    return _parts(flat, (places + np.arange(count) * pitch + _EDGE + begin) * channels, places * channels)


def _parts(flat: np.ndarray, begin: np.ndarray, length: int) -> np.ndarray:
    """`[R, length]`: `length` values of `flat` from each of `begin [R]` on."""
    return as_strided(flat, (flat.size - length + 1, length), (1, 1), writeable=False)[begin]


def _shear_x(pixels: np.ndarray, o: Operation, fill: Color) -> np.ndarray:
    """Equals Pillow's `transform` by (1, slope, 0, 0, 1, 0)."""
    move = o.argument * (np.arange(len(pixels)) + 0.5)
    return _slide(pixels, move, o.interpolation, np.array(fill, np.uint8))


def _shear_y(pixels: np.ndarray, o: Operation, fill: Color) -> np.ndarray:
    return _turned(_shear_x(_turned(pixels), o, fill))


def _turned(pixels: np.ndarray) -> np.ndarray:
    return np.asarray(_pillow(pixels).transpose(Image.Transpose.TRANSPOSE))


def _translate_x(pixels: np.ndarray, o: Operation, fill: Color) -> np.ndarray:
    return _slide(pixels, np.full(len(pixels), o.argument), o.interpolation, np.array(fill, np.uint8))


def _translate_y(pixels: np.ndarray, o: Operation, fill: Color) -> np.ndarray:
    """As one row whose positions are the image's rows."""
    row = pixels.reshape(1, len(pixels), -1)
    beyond = np.tile(np.array(fill, np.uint8), pixels.shape[1])
    return _slide(row, np.array([o.argument]), o.interpolation, beyond).reshape(pixels.shape)


def _rotate(pixels: np.ndarray, o: Operation, fill: Color) -> np.ndarray:
    return np.asarray(_pillow(pixels).rotate(o.argument, _RESAMPLING[o.interpolation], fillcolor=fill))


OPERATIONS: dict[str, Callable[[np.ndarray, Operation, Color], np.ndarray]] = {
    "auto-contrast": lambda pixels, o, fill: _auto_contrast(pixels),
    "equalize": lambda pixels, o, fill: np.asarray(ImageOps.equalize(_pillow(pixels))),
    "invert": lambda pixels, o, fill: ~pixels,
    "posterize": lambda pixels, o, fill: _posterize(pixels, int(o.argument)),
    "solarize": lambda pixels, o, fill: _solarize(pixels, o.argument),
    "solarize-add": lambda pixels, o, fill: _solarize_add(pixels, int(o.argument)),
    "color": lambda pixels, o, fill: _color(pixels, o.argument),
    "contrast": lambda pixels, o, fill: _contrast(pixels, o.argument),
    "brightness": lambda pixels, o, fill: _brightness(pixels, o.argument),
    "sharpness": lambda pixels, o, fill: _sharpness(pixels, o.argument),
    "hue": lambda pixels, o, fill: _hue(pixels, o.argument),
    "rotate": _rotate,
    "shear-x": _shear_x,
    "shear-y": _shear_y,
    "translate-x": _translate_x,
    "translate-y": _translate_y,
}
