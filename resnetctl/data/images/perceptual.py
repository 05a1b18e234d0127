"""What a picture looks like, in 64 bits: nearly the same for pictures that people would call the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resnetctl.errors import ResnetctlError

if TYPE_CHECKING:
    from PIL import Image

BITS = 64


def check_imagehash() -> None:
    """Raise ResnetctlError where the package imagehash is not installed."""
    try:
        import imagehash  # noqa: F401
    except ImportError:
        raise ResnetctlError(
            "images that look alike are found by the package imagehash", hint="pip install 'resnetctl[near]'"
        ) from None


def perceptual_hash(image: Image.Image) -> int:
    """imagehash's pHash: which of the 64 lowest frequencies of the picture, at 32 × 32, are above their median.

    Another size, JPEG quality or brightness changes a few of the bits; another crop, or a mirror image, many.
    """
    import imagehash

    return int(str(imagehash.phash(image)), 16)
