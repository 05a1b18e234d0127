"""EXIF orientation of an image. Data sets are read as stored, as in torchvision's references."""

from __future__ import annotations

import warnings

import torch

from resnetctl.data.images.pillow import open_image

_TAG = 0x0112  # Orientation, CIPA DC-008 4.6.4 (Exif 2.32)
UPRIGHT = 1


def orientation(data: bytes) -> int:
    """The EXIF orientation, 1 to 8, of a JPEG, PNG, WebP or AVIF; 1 if there is none or it is invalid.

    TIFFs and HEICs are rotated by their decoders, and other formats have no EXIF.
    """
    if not _has_exif(data):
        return UPRIGHT
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = open_image(data).getexif().get(_TAG, UPRIGHT)
    except Exception:  # Pillow raises nearly anything for corrupt EXIF
        return UPRIGHT
    return found if found in range(1, 9) else UPRIGHT


def _has_exif(data: bytes) -> bool:
    """Whether there may be EXIF; quick, since nearly all images of data sets have none."""
    if data[:4] == b"\x89PNG":
        return b"eXIf" in data
    if data[:4] == b"RIFF":
        return b"EXIF" in data
    if data[4:8] == b"ftyp":
        return b"avif" in data[8:64]  # Pillow reports the container's irot and imir as EXIF
    if data[:2] != b"\xff\xd8":
        return False
    at = 2  # a JPEG's application segments come first (ITU-T T.81, B.1)
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] >= 0xE0:
        if data[at + 1] == 0xE1 and data.startswith(b"Exif\0", at + 4):
            return True
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return False


def turned(image: torch.Tensor, orientation: int) -> torch.Tensor:
    """`[3, H, W]` transformed as `orientation` says: mirrored, rotated by 90° steps, or both."""
    if orientation in (5, 6, 7, 8):
        image = image.transpose(1, 2)
    # what remains after that: the sides to mirror
    sides = {2: (2,), 3: (1, 2), 4: (1,), 6: (2,), 7: (1, 2), 8: (1,)}.get(orientation)
    return image.flip(sides) if sides else image
