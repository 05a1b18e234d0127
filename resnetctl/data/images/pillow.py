"""Image files as Pillow images: the formats and sizes accepted, the same for decoding, verifying and packing."""

from __future__ import annotations

import io
import re
import warnings

import numpy as np
from PIL import AvifImagePlugin, Image

from resnetctl.data.images.header import MAX_PIXELS
from resnetctl.errors import DataError

# accepted formats; some of Pillow's start other programs (EPS: Ghostscript)
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM", "AVIF")
# GIF and AVIF are not for TorchCodec 0.17: it decodes every frame, fills a GIF's transparency, darkens an AVIF by its
# transparency, and rotates it
AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # the loader's workers are the parallelism

_HEIC = re.compile(rb"....ftyp(heic|heix|heim|heis|mif1)", re.DOTALL)
_HEIC_SIZE = re.compile(rb"ispe\0{4}(.{4})(.{4})", re.DOTALL)  # ISO/IEC 23008-12, 6.5.3: width, height


def check_pixels(height: int, width: int) -> None:
    """Raise DataError if an image is larger than any meant for training."""
    if height * width > MAX_PIXELS:
        raise _bomb(f"{width}×{height}")


def _bomb(claimed: str) -> DataError:
    return DataError(f"a decompression bomb: {claimed} pixels are too many ({MAX_PIXELS:,} at most)")


def open_image(data: bytes) -> Image.Image:
    """The image in `data`; its pixels are read on demand, when Pillow may raise nearly anything.

    Raises DataError if it claims more than MAX_PIXELS pixels, and UnidentifiedImageError if its format is not accepted.
    """
    if _HEIC.match(data) and b"avif" not in data[:64]:
        return _open_heic(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on corrupt EXIF and the like, which is not used here
        try:
            image = Image.open(io.BytesIO(data), formats=FORMATS)
        except Image.DecompressionBombError as error:  # raised by Pillow itself above twice as many
            raise _bomb("its") from error
    check_pixels(image.height, image.width)
    return image


def _open_heic(data: bytes) -> Image.Image:
    """The first image in a HEIC file, rotated as the container says; its EXIF is ignored."""
    sizes = [
        (int.from_bytes(height, "big"), int.from_bytes(width, "big")) for width, height in _HEIC_SIZE.findall(data)
    ]
    if not sizes:
        raise DataError("not an image that can be read: a HEIC without a size")
    for size in sizes:
        check_pixels(*size)
    try:
        from torchcodec.decoders import decode_heic

        pixels = decode_heic(data)
    except ImportError as error:
        raise DataError("not an image that can be read: HEIC needs TorchCodec and the system's libheif") from error
    image = Image.fromarray((pixels if pixels.dim() == 3 else pixels[0]).permute(1, 2, 0).numpy())
    image.format = "HEIF"
    return image


def check_mode(image: Image.Image) -> None:
    """Raise DataError if the range of pixel values is unknown."""
    if image.mode in ("I", "F") and not _has_16_bits(image):
        raise DataError("its pixels are 32-bit numbers of unknown range")


def _has_16_bits(image: Image.Image) -> bool:
    return image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG")


def rgb(image: Image.Image) -> np.ndarray:
    """`[H, W, 3] uint8`. Raises DataError as `check_mode` does, and anything Pillow raises for damaged bytes."""
    check_mode(image)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if _has_16_bits(image):
            gray = (np.array(image) >> 8).astype(np.uint8)  # Pillow's own conversion would cut at 255: all white
            return np.repeat(gray[:, :, None], 3, 2)
        return np.array(image.convert("RGB"))
