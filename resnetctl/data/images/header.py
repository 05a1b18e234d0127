"""Height and width of an image from the first bytes of its file.

They are those of the stored pixels: an EXIF orientation does not turn them, as no decoder used here does. JPEG: ITU-T
T.81, B.1 and B.2; PNG: W3C, 11.2.2; GIF, BMP, WebP (RFC 9649) and PNM by their first bytes. Other formats: unknown.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable

UNKNOWN = (0, 0)
MAX_PIXELS = (1 << 30) // 12  # 89 megapixels, where Pillow warns of a bomb; the largest of ImageNet has 36
Reader = Callable[[int, int], bytes]
"""`read(count, offset)`: up to `count` bytes at `offset` of the image file, as os.pread does it."""

_MAX_SEGMENTS = 256
_MORE_BYTES = 1 << 16  # a JPEG segment is no longer than that
_LARGEST = (1 << 31) - 1
# start-of-frame markers: C0 to CF without DHT (C4), JPG (C8) and DAC (CC)
_IS_FRAME = [0xC0 <= m <= 0xCF and m not in (0xC4, 0xC8, 0xCC) for m in range(256)]
_PNM = re.compile(rb"P[1-6](?:\s|#[^\n]*\n)+(\d{1,9})(?:\s|#[^\n]*\n)+(\d{1,9})\s")


def ends_in_zeros(data: bytes) -> bool:
    """Whether the last part of a JPEG is zeros, as after a broken download; decoders take that without a word."""
    return data[:2] == b"\xff\xd8" and data.endswith(bytes(16)) and not data.rstrip(b"\0").endswith(b"\xff\xd9")


def image_size(head: bytes, read: Reader | None = None) -> tuple[int, int]:
    """(height, width) in pixels, from the first bytes of an image file, or (0, 0) where they do not tell.

    `read` fetches more where the header of a JPEG is longer than `head`. Nothing is raised for damaged bytes.
    """
    if head[:2] == b"\xff\xd8":
        return _jpeg(head, read)
    size = _fixed(head)
    return size if 0 < size[0] <= _LARGEST and 0 < size[1] <= _LARGEST else UNKNOWN


def _jpeg(data: bytes, read: Reader | None) -> tuple[int, int]:
    """Walk the segments up to the frame header: marker, length, precision, height, width."""
    base, pos = 0, 2  # data[0] is byte `base` of the file
    for _ in range(_MAX_SEGMENTS):
        if pos - base + 9 > len(data):
            if read is None:
                return UNKNOWN
            base, data = pos, read(_MORE_BYTES, pos)
            if len(data) < 9:
                return UNKNOWN
        at = pos - base
        if data[at] != 0xFF:
            return UNKNOWN
        marker = data[at + 1]
        if marker == 0xFF:  # a fill byte
            pos += 1
        elif _IS_FRAME[marker]:
            height, width = data[at + 5] << 8 | data[at + 6], data[at + 7] << 8 | data[at + 8]
            return (height, width) if height and width else UNKNOWN
        elif marker in (0xD8, 0x01) or 0xD0 <= marker <= 0xD7:  # no length follows
            pos += 2
        elif marker in (0x00, 0xD9, 0xDA):  # no marker, or the image ends or its data begin without a frame
            return UNKNOWN
        else:
            pos += 2 + (data[at + 2] << 8 | data[at + 3])
    return UNKNOWN


def _fixed(head: bytes) -> tuple[int, int]:
    """Formats whose size stands at a fixed place."""
    if head[:8] == b"\x89PNG\r\n\x1a\n" and head[12:16] == b"IHDR" and len(head) >= 24:
        width, height = struct.unpack(">II", head[16:24])
        return height, width
    if head[:6] in (b"GIF87a", b"GIF89a") and len(head) >= 10:
        width, height = struct.unpack("<HH", head[6:10])
        return height, width
    if head[:2] == b"BM" and len(head) >= 26 and int.from_bytes(head[14:18], "little") >= 40:
        width, height = struct.unpack("<ii", head[18:26])
        return abs(height), width  # a negative height: rows from the top
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP" and len(head) >= 30:
        return _webp(head)
    pnm = _PNM.match(head)
    return (int(pnm[2]), int(pnm[1])) if pnm else UNKNOWN


def _webp(head: bytes) -> tuple[int, int]:
    kind = head[12:16]
    if kind == b"VP8X":
        return int.from_bytes(head[27:30], "little") + 1, int.from_bytes(head[24:27], "little") + 1
    if kind == b"VP8L" and head[20] == 0x2F:
        bits = int.from_bytes(head[21:25], "little")
        return (bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1
    if kind == b"VP8 " and head[23:26] == b"\x9d\x01\x2a":
        width, height = struct.unpack("<HH", head[26:30])
        return height & 0x3FFF, width & 0x3FFF
    return UNKNOWN
