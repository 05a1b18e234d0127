"""From an image file's bytes to pixels of a given size, all in uint8.

Resizing works on uint8 with antialiasing. Bilinear differs from Pillow's by at most 1 of 255, bicubic by up to 8 at
single bright points (mean 0.05, measured), since torch's weights have 16 bits. JPEG decoding does not differ: all
decoders use libjpeg-turbo alike; torchvision's may be 1 of 255 off for CMYK.
"""

from __future__ import annotations

import torch
from PIL import UnidentifiedImageError
from torch.nn.functional import interpolate

from resnetctl.data.images.decoders import whole_decoder
from resnetctl.data.images.header import ends_in_zeros, image_size
from resnetctl.data.images.pillow import check_pixels, open_image, rgb
from resnetctl.errors import DataError


def decode(data: bytes, decoder: str = "auto") -> torch.Tensor:
    """An image file as `[3, H, W] uint8` RGB (channels last in memory); gray and CMYK are converted, EXIF ignored.

    `decoder` comes from `choose_decoder`; if it cannot decode whole files, the first one that loads is used.
    Raises DataError if it is not an image, is truncated, or has more than MAX_PIXELS pixels.
    """
    height, width = image_size(data)
    check_pixels(height, width)
    if ends_in_zeros(data):
        raise DataError("not an image that can be read: its last part is zeros, as after a broken download")
    pixels = whole_decoder(decoder)(data) if height else None  # without a height, the size is not known beforehand
    return _decode_with_pillow(data) if pixels is None else pixels


def _decode_with_pillow(data: bytes) -> torch.Tensor:
    try:
        pixels = rgb(open_image(data))
    except DataError:
        raise
    except UnidentifiedImageError as error:  # its message is our buffer's address
        raise DataError("not an image that can be read: " + ("unknown kind" if data else "empty file")) from error
    except Exception as error:  # Pillow raises nearly everything on hostile bytes
        raise DataError(f"not an image that can be read: {error or type(error).__name__}") from error
    return torch.from_numpy(pixels).permute(2, 0, 1)


def resize(image: torch.Tensor, height: int, width: int, interpolation: str) -> torch.Tensor:
    """`[3, H, W] uint8` to `[3, height, width] uint8`, antialiased; `interpolation` is bilinear or bicubic."""
    if image.shape[1:] == (height, width):
        return image
    # a crop counts as channels first, and so would the result: copying it into a batch took half as long as resizing
    # (the batch dimension goes first because torch recognises channels last by its stride too)
    batch = image.permute(1, 2, 0)[None].permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
    return interpolate(batch, (height, width), mode=interpolation, antialias=True, align_corners=False)[0]


def centre(image: torch.Tensor, short_side: int, size: int, interpolation: str) -> torch.Tensor:
    """Resize the shorter side to `short_side` and crop the central `size`×`size`: torchvision's evaluation preset.

    An image smaller than `size` after resizing is padded with black, as in torchvision's center_crop. Raises DataError
    if the image is so narrow that it would have more than MAX_PIXELS pixels after resizing.
    """
    h, w = image.shape[1:]
    # torchvision.transforms.functional._compute_resized_output_size: the longer side is truncated, not rounded
    new_h, new_w = (short_side, int(short_side * w / h)) if h <= w else (int(short_side * h / w), short_side)
    check_pixels(new_h, new_w)  # a line of 100,000 pixels would grow to 20 GB
    image = resize(image, new_h, new_w, interpolation)
    if new_h < size or new_w < size:
        pad_h, pad_w = max(0, size - new_h), max(0, size - new_w)
        left, top = pad_w // 2, pad_h // 2
        image = torch.nn.functional.pad(image, (left, pad_w - left, top, pad_h - top))
        new_h, new_w = image.shape[1:]
    # Python's round, to even, as torchvision.transforms.functional.center_crop
    top, left = round((new_h - size) / 2.0), round((new_w - size) / 2.0)
    return image[:, top : top + size, left : left + size]
