"""From an image file's bytes to pixels of the wanted size, all in uint8.

Resizing works on uint8 with antialiasing; it differs from Pillow's by at most 1 of 255 (mean 0.003, measured), and
JPEG decoding by nothing, since both use libjpeg-turbo with the same settings.
"""

from __future__ import annotations

import io
import warnings

import torch
from PIL import Image
from torch.nn.functional import interpolate
from torchvision.io import ImageReadMode, decode_jpeg

from resnetctl.errors import DataError

MAX_PIXELS = 1 << 27  # 134 megapixels; the largest of ImageNet has 36


def decode(data: bytes) -> torch.Tensor:
    """An image file as `[3, H, W] uint8` RGB (channels last in memory); gray and CMYK are converted, EXIF ignored.

    Raises DataError where it is no image, is cut short, or has more than MAX_PIXELS pixels.
    """
    if data[:2] == b"\xff\xd8":
        _refuse_bomb(data)
        try:
            return decode_jpeg(torch.frombuffer(bytearray(data), dtype=torch.uint8), mode=ImageReadMode.RGB)
        except RuntimeError:
            pass  # an unusual one, or a broken one: Pillow knows more kinds and says what is wrong
    return _decode_with_pillow(data)


def _refuse_bomb(data: bytes) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            width, height = Image.open(io.BytesIO(data)).size
        except Exception as error:
            raise DataError(f"not an image that can be read: {error}") from error
    if width * height > MAX_PIXELS:
        raise DataError(f"{width}×{height} pixels are more than an image of this kind has ({MAX_PIXELS:,})")


def _decode_with_pillow(data: bytes) -> torch.Tensor:
    import numpy as np

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(data))
            if image.width * image.height > MAX_PIXELS:
                raise DataError(f"{image.width}×{image.height} pixels are too many ({MAX_PIXELS:,} at most)")
            pixels = np.array(image.convert("RGB"))
    except DataError:
        raise
    except Exception as error:  # Pillow raises nearly everything on hostile bytes
        raise DataError(f"not an image that can be read: {error or type(error).__name__}") from error
    return torch.from_numpy(pixels).permute(2, 0, 1)


def resize(image: torch.Tensor, height: int, width: int, interpolation: str) -> torch.Tensor:
    """`[3, H, W] uint8` to `[3, height, width] uint8`, antialiased; `interpolation` is bilinear or bicubic."""
    if image.shape[1:] == (height, width):
        return image
    return interpolate(image[None], (height, width), mode=interpolation, antialias=True, align_corners=False)[0]


def centre(image: torch.Tensor, short_side: int, size: int, interpolation: str) -> torch.Tensor:
    """The shorter side to `short_side`, then the central `size`×`size`: torchvision's evaluation preset, in uint8.

    A picture smaller than `size` after resizing is padded with black, as torchvision's center_crop does.
    """
    h, w = image.shape[1:]
    # torchvision.transforms.functional._compute_resized_output_size: the longer side is cut, not rounded
    new_h, new_w = (short_side, int(short_side * w / h)) if h <= w else (int(short_side * h / w), short_side)
    image = resize(image, new_h, new_w, interpolation)
    if new_h < size or new_w < size:
        pad_h, pad_w = max(0, size - new_h), max(0, size - new_w)
        left, top = pad_w // 2, pad_h // 2
        image = torch.nn.functional.pad(image, (left, pad_w - left, top, pad_h - top))
        new_h, new_w = image.shape[1:]
    # Python's round, to even, as torchvision.transforms.functional.center_crop
    top, left = round((new_h - size) / 2.0), round((new_w - size) / 2.0)
    return image[:, top : top + size, left : left + size]
