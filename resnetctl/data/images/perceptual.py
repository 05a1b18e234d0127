"""A 64-bit perceptual hash of an image: nearly the same for images that look the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resnetctl.errors import ResnetctlError

if TYPE_CHECKING:
    from PIL import Image

BITS = 64


def check_imagehash() -> None:
    """Raise ResnetctlError if the package imagehash is not installed."""
    try:
        import imagehash  # noqa: F401
    except ImportError:
        raise ResnetctlError(
            "finding similar images needs the package imagehash", hint="pip install 'resnetctl[near]'"
        ) from None


def perceptual_hash(image: Image.Image) -> int:
    """imagehash's pHash: which of the 64 lowest frequencies of the image, at 32 × 32, are above their median.

    A different size, JPEG quality or brightness changes few bits; a different crop or mirroring changes many.
    """
    import imagehash

    return int(str(imagehash.phash(image)), 16)
