"""Copies of image files that no decoder rotates.

TorchCodec always applies the EXIF orientation (JEITA CP-3451, 4.6.5). Training customarily uses the stored pixels:
torchvision's ImageFolder, timm's data sets and FFCV's writer ignore the orientation, and the sizes in an index are
those of the stored pixels. JPEG: ITU-T T.81, B.1; PNG: W3C, 5.3; WebP: RFC 9649, 2.3.
"""

from __future__ import annotations

_APP1, _APP15, _SOS, _FILL = 0xE1, 0xEF, 0xDA, 0xFF
_SEQUENTIAL = (0xC0, 0xC1)  # frames that can lie in a single scan


def unturned(data: bytes) -> bytearray | None:
    """A copy of a JPEG, PNG or WebP in which a decoder finds no orientation; the pixels are the same.

    None if that is not certain: for other formats, and for files whose structure cannot be followed.
    """
    copy = bytearray(data)
    if data[:2] == b"\xff\xd8":
        return copy if _hide_app1(copy) else None
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return copy if _plain_png(data) else None
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return copy if _plain_webp(data) else None
    return None


def _hide_app1(data: bytearray) -> bool:
    """Rename each APP1 segment APP15, which decoders skip; False if the segments before the first scan are unclear."""
    pos, frame, components = 2, 0, 0
    while pos + 10 <= len(data) and data[pos] == 0xFF:
        marker = data[pos + 1]
        if marker == _FILL:
            pos += 1
            continue
        if marker == _SOS:
            # libjpeg reads all scans of an image, and what lies between them, before its first row
            single = frame in _SEQUENTIAL and data[pos + 4] == components
            return single or data.find(b"\xff\xe1", pos) < 0
        if not 0xC0 <= marker <= 0xFE or 0xD0 <= marker <= 0xD9:  # no length follows, or not a marker
            return False
        if marker == _APP1:
            data[pos + 1] = _APP15
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            frame, components = marker, data[pos + 9]
        pos += 2 + (data[pos + 2] << 8 | data[pos + 3])
    return False


def _plain_png(data: bytes) -> bool:
    """Whether a PNG has no eXIf before its pixels, and samples of at most 8 bits, so that none lose precision."""
    if data[24:25] > b"\x08" or data[-8:-4] != b"IEND":
        return False
    pos = 8
    while pos + 8 <= len(data):
        kind = data[pos + 4 : pos + 8]
        if kind in (b"IDAT", b"eXIf"):
            return kind == b"IDAT"
        pos += 12 + int.from_bytes(data[pos : pos + 4], "big")
    return False


def _plain_webp(data: bytes) -> bool:
    """Whether a WebP is one complete still image without EXIF."""
    end = 8 + int.from_bytes(data[4:8], "little")
    pos = 12
    while pos + 8 <= end <= len(data):
        if data[pos : pos + 4] in (b"EXIF", b"ANIM", b"ANMF"):
            return False
        size = int.from_bytes(data[pos + 4 : pos + 8], "little")
        pos += 8 + size + size % 2
    return pos >= end
