import io
import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resnetctl.data.images.header import image_size

SIZES = [(1, 1), (3, 500), (301, 2), (257, 256)]


def encoded(height: int, width: int, format: str, mode: str = "RGB", **options: object) -> bytes:
    pixels = np.random.default_rng(height).integers(0, 256, (height, width, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, format, **options)
    return file.getvalue()


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize(
    ("format", "mode", "options"),
    [
        ("JPEG", "RGB", {}),
        ("JPEG", "L", {"quality": 30}),
        ("JPEG", "CMYK", {}),
        ("JPEG", "RGB", {"progressive": True, "comment": b"c" * 1000}),
        ("PNG", "RGB", {}),
        ("PNG", "P", {}),
        ("GIF", "P", {}),
        ("BMP", "RGB", {}),
        ("WEBP", "RGB", {}),
        ("WEBP", "RGB", {"lossless": True}),
        ("WEBP", "RGBA", {"exif": b"Exif\0\0"}),
        ("PPM", "RGB", {}),
        ("PPM", "L", {}),
    ],
)
def test_size_as_pillow_reads_it(height: int, width: int, format: str, mode: str, options: dict[str, object]) -> None:
    data = encoded(height, width, format, mode, **options)
    image = Image.open(io.BytesIO(data))
    assert image_size(data[:1536], lambda count, at: data[at : at + count]) == (image.height, image.width)
    assert (image.height, image.width) == (height, width)


def test_a_long_exif_is_skipped_by_reading_on() -> None:
    exif = b"Exif\0\0" + bytes(60_000)
    data = encoded(40, 50, "JPEG", exif=exif, icc_profile=bytes(200_000))
    reads = []

    def read(count: int, at: int) -> bytes:
        reads.append(at)
        return data[at : at + count]

    assert image_size(data[:1536]) == (0, 0)
    assert image_size(data[:1536], read) == (40, 50)
    assert 1 <= len(reads) <= 6


def test_exif_orientation_does_not_turn_it() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    assert image_size(encoded(20, 30, "JPEG", exif=exif)) == (20, 30)


@pytest.mark.parametrize("data", [b"", b"\xff\xd8", b"\xff\xd8\xff", b"<html>", b"P6\n", b"RIFF", b"\x89PNG\r\n\x1a\n"])
def test_unknown_is_zero(data: bytes) -> None:
    assert image_size(data, lambda count, at: data[at : at + count]) == (0, 0)


def test_damaged_headers_raise_nothing_and_end() -> None:
    rng = random.Random(1)
    wholes = [encoded(30, 40, f) for f in ("JPEG", "PNG", "GIF", "BMP", "WEBP", "PPM")]
    for turn in range(3000):
        data = bytearray(wholes[turn % len(wholes)])
        for _ in range(rng.randint(1, 8)):
            data[rng.randrange(min(len(data), 700))] = rng.choice((0, 255, 0xC0, 0xD8, rng.randrange(256)))
        cut = bytes(data[: rng.randrange(len(data))])
        height, width = image_size(cut, lambda count, at, cut=cut: cut[at : at + count])
        assert 0 <= height < 1 << 31
        assert 0 <= width < 1 << 31


def test_the_bundled_sample_was_indexed_with_its_true_sizes(tmp_path: Path) -> None:
    from resnetctl.data.prepare import prepare

    index = prepare(tmp_path, kind="sample").dataset.val()
    for i in range(len(index)):
        assert image_size(index.read(i)) == (index.height[i], index.width[i]) == (28, 28)
