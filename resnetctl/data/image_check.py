"""Whether an image can be trained on: it decodes, is unchanged, and is no decompression bomb."""

from __future__ import annotations

import warnings
import zlib
from typing import NamedTuple

from PIL import Image

from resnetctl.data.images.header import ends_in_zeros
from resnetctl.data.images.perceptual import perceptual_hash
from resnetctl.data.images.pillow import check_mode, open_image
from resnetctl.data.index import UNKNOWN_CRC, Index
from resnetctl.errors import DataError, printable

_CHANGED = "its bytes have changed since prepare or verify read them (CRC)"
_JPEG_SUFFIXES = (".jpg", ".jpeg")


class ImageCheck(NamedTuple):
    """The findings for one image."""

    reason: str | None
    """Why it cannot be trained on, or None."""
    unusual: tuple[str, ...] = ()
    """Unusual but harmless properties."""
    crc32: int = UNKNOWN_CRC
    """Of its bytes, if they decode."""
    changed: bool = False
    """Whether it decodes, but its bytes have changed since its CRC was recorded."""
    look: int = 0
    """Its perceptual hash, if requested."""


def check_image(index: Index, i: int, *, accept_changed: bool = False, look: bool = False) -> ImageCheck:
    """Check sample i of `index`; `accept_changed`: changed bytes are fine if they decode; `look`: hash it too."""
    try:
        data = index.read(i)
    except DataError as error:
        return ImageCheck(error.message)
    if longer := _longer_file(index, i):
        return ImageCheck(longer)
    crc32 = zlib.crc32(data)
    changed = index.crc32[i] not in (UNKNOWN_CRC, crc32)
    try:
        image = _load(data)
        _check_size(index, i, image)
    except DataError as error:
        return ImageCheck(f"{_CHANGED}; {error.message}" if changed else error.message)
    unusual = tuple(_unusual(index.name(i), str(image.format), image.mode))
    reason = _CHANGED if changed and not accept_changed else None
    return ImageCheck(reason, unusual, crc32, changed, perceptual_hash(image) if look else 0)


def _check_size(index: Index, i: int, image: Image.Image) -> None:
    height, width = int(index.height[i]), int(index.width[i])
    if height and (height, width) != (image.height, image.width):
        raise DataError(
            f"it is {image.width} × {image.height}, but the index says {width} × {height}: run resnetctl prepare again"
        )


def _longer_file(index: Index, i: int) -> str | None:
    """The message for an image file that has grown since prepare (only its first bytes are read), or None."""
    if index.offset[i] != 0:  # a member of an archive is never at 0: a header comes first
        return None
    size = index.container_path(int(index.container[i])).stat().st_size
    if size == index.length[i]:
        return None
    return f"its file has {size:,} bytes now, and had {index.length[i]:,}: run resnetctl prepare again"


def _load(data: bytes) -> Image.Image:
    """The image with its pixels loaded. Raises DataError with the reason if it cannot be trained on."""
    if ends_in_zeros(data) and data.count(0) < len(data):
        raise DataError("its last part is zeros, as after a broken download")
    try:
        image = open_image(data)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image.load()
        check_mode(image)
    except DataError:
        raise
    except Exception as error:  # Pillow raises nearly anything for damaged bytes
        raise DataError(_reason(data, error)) from error
    return image


def _unusual(name: str, form: str, mode: str) -> list[str]:
    notes = []
    if name.lower().endswith(_JPEG_SUFFIXES) and form not in ("JPEG", "MPO"):
        notes.append(f"{form} in a file called .JPEG")
    if mode not in ("RGB", "YCbCr"):
        notes.append({"L": "grayscale", "P": "palette", "RGBA": "with transparency"}.get(mode, mode))
    return notes


def _reason(data: bytes, error: Exception) -> str:
    if not data:
        return "it is empty"
    if data.count(0) == len(data):
        return "all its bytes are zero"
    start = data[:256].lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html", b"<?xml", b"<head", b"<body")):
        return "it is a web page, not an image"
    if all(32 <= c < 127 or c in b"\t\r\n" for c in data[:256]):
        return "it is text, not an image"
    return printable(error) or type(error).__name__
