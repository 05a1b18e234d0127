"""Decoding against Pillow, resizing against torchvision, and what must not pass as a picture."""

import io
import struct
import time
import tracemalloc
import zlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import v2

from resnetctl.data.images.decode import centre, decode, resize
from resnetctl.errors import DataError
from tests.fixtures.imagenet_archives import jpeg
from tests.fixtures.photos import jpeg as photo_jpeg
from tests.fixtures.photos import tile


def encoded(image: Image.Image, format: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def by_pillow(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def difference(image: torch.Tensor, expected: np.ndarray) -> int:
    """The largest difference of a `[3, H, W]` picture from an `[H, W, 3]` one."""
    assert image.dtype == torch.uint8
    assert image.permute(1, 2, 0).shape == expected.shape
    return int(np.abs(image.permute(1, 2, 0).numpy().astype(int) - expected).max())


@pytest.fixture(scope="module")
def photo() -> bytes:
    return photo_jpeg(tile(1, 250, 187))


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": "4:4:4"}, {"quality": 30}])
@pytest.mark.parametrize("size", [(250, 187), (1, 1), (17, 300)])
def test_a_jpeg_is_what_pillow_makes_of_it(size, options):
    data = encoded(tile(2, *size), "JPEG", **options)
    image = decode(data)
    assert difference(image, by_pillow(data)) == 0
    assert image[None].is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("mode", "format"),
    [
        *((mode, "JPEG") for mode in ("L", "CMYK")),
        *((mode, "PNG") for mode in ("RGB", "L", "RGBA", "1", "LA")),
        *((mode, "TIFF") for mode in ("RGB", "CMYK")),
        *(("RGB", format) for format in ("BMP", "WEBP", "PPM", "GIF", "AVIF")),
        *(("RGBA", format) for format in ("WEBP", "AVIF")),
    ],
)
def test_every_mode_and_kind_becomes_rgb(mode, format):
    data = encoded(tile(2, 61, 47).convert(mode), format)
    assert difference(decode(data), by_pillow(data)) <= 1  # CMYK is converted by each decoder itself
    assert decode(data).float().std() > 10


@pytest.mark.filterwarnings("ignore:Palette images")
def test_transparency_is_dropped_and_not_painted():
    """Other decoders give the background's color, or pixels that are darker by their transparency."""
    picture = tile(2, 61, 47)
    mask = tile(3, 61, 47).convert("L")
    faded = picture.copy()
    faded.putalpha(mask)
    for format in ("PNG", "WEBP", "AVIF"):
        data = encoded(faded, format)
        assert difference(decode(data), by_pillow(data)) == 0
        assert difference(decode(data), np.asarray(picture)) <= (0 if format == "PNG" else 60)
    for options in ({}, {"background": 3}):
        data = encoded(picture.quantize(16), "GIF", transparency=5, **options)
        assert difference(decode(data), by_pillow(data)) == 0
    for mode, transparency in (("P", bytes(range(0, 160, 10))), ("L", 100), ("RGB", (10, 20, 30))):
        data = encoded(picture.quantize(16) if mode == "P" else picture.convert(mode), "PNG", transparency=transparency)
        assert difference(decode(data), by_pillow(data)) == 0


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG", "AVIF"])
def test_of_an_animation_the_first_picture(format):
    pictures = [tile(n, 61, 47) for n in range(4)]
    data = encoded(pictures[0], format, save_all=True, append_images=pictures[1:], duration=50)
    assert difference(decode(data), by_pillow(data)) == 0


def interlaced(image: Image.Image) -> bytes:
    """As a PNG in the seven passes of Adam7 (W3C PNG, 8.2), which Pillow reads and does not write."""
    pixels, passes = np.asarray(image), b""
    for top, left, down, across in [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2)]:
        passes += b"".join(b"\0" + row.tobytes() for row in pixels[top::down, left::across])
    passes += b"".join(b"\0" + row.tobytes() for row in pixels[1::2])
    data = encoded(image, "PNG")
    head, body = bytearray(data[:33]), data.index(b"IDAT") - 4
    head[28] = 1
    head[29:33] = struct.pack(">I", zlib.crc32(head[12:29]))
    packed = zlib.compress(passes)
    chunk = struct.pack(">I", len(packed)) + b"IDAT" + packed + struct.pack(">I", zlib.crc32(b"IDAT" + packed))
    return bytes(head) + data[33:body] + chunk + data[-12:]


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_an_interlaced_png(mode):
    picture = tile(2, 61, 47).convert(mode)
    data = interlaced(picture)
    assert np.array_equal(by_pillow(data), np.asarray(picture.convert("RGB")))
    assert difference(decode(data), by_pillow(data)) == 0


def test_a_palette_png():
    data = encoded(tile(2, 61, 47).quantize(16), "PNG")
    assert difference(decode(data), by_pillow(data)) == 0


@pytest.mark.parametrize("colors", [2, 4, 16, 256])
def test_a_palette_png_with_transparency_stays_within_its_memory(colors):
    """TorchCodec 0.16 writes four channels of it into three, and the process aborts."""
    data = encoded(tile(2, 497, 315).quantize(colors), "PNG", transparency=bytes([0, 128]))
    pictures = [decode(data) for _ in range(8)]
    assert all(difference(picture, by_pillow(data)) == 0 for picture in pictures)


def test_gray_with_16_bits_keeps_its_range():
    """Pillow's conversion cuts at 255, which makes nearly all of such a picture white."""
    values = np.array([[0, 255, 256, 0x8000, 0xFFFF]], np.uint16)
    for format in ("PNG", "TIFF"):
        image = decode(encoded(Image.fromarray(values), format))
        assert image.tolist() == [[[0, 0, 1, 128, 255]]] * 3


def test_numbers_without_a_range_are_no_picture():
    for values in (np.ones((4, 4), np.float32), np.full((4, 4), 70_000, np.int32)):
        with pytest.raises(DataError, match="32-bit"):
            decode(encoded(Image.fromarray(values), "TIFF"))


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_cut_anywhere_is_refused(photo, progressive):
    data = encoded(Image.open(io.BytesIO(photo)), "JPEG", progressive=progressive)
    for length in [*range(0, 700, 37), *range(700, len(data), 499), *range(len(data) - 8, len(data))]:
        with pytest.raises(DataError, match="not an image that can be read") as caught:
            decode(data[:length])
        assert "0x" not in str(caught.value)  # no address: the same words each time


def test_a_cut_png_is_refused():
    data = encoded(tile(5, 90, 70), "PNG")
    for length in range(0, len(data) - 40, 501):
        with pytest.raises(DataError):
            decode(data[:length])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        bytes(5000),
        b"<html><body>404 not found</body></html>",
        b"\xff\xd8<html>",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n",  # Ghostscript would be run
        b"GIF89a",
        b"\xff\xd8\xff\xd9",
    ],
    ids=["empty", "zeros", "html", "html after SOI", "eps", "gif", "no frame"],
)
def test_what_is_no_picture_is_refused(data):
    with pytest.raises(DataError, match=r"not an image that can be read: (unknown kind|empty file|.*[Tt]runcated)"):
        decode(data)


def test_a_zero_filled_end_is_refused(photo):
    """Pillow and libjpeg take it for a gray lower half."""
    for kept in (len(photo) // 2, len(photo) - 400, len(photo) - 20):
        with pytest.raises(DataError, match="not an image that can be read"):
            decode(photo[:kept] + bytes(len(photo) - kept))
    assert torch.equal(decode(photo + bytes(512)), decode(photo))  # padded after its end


def huge_jpeg(photo: bytes) -> bytes:
    frame = photo.index(b"\xff\xc0")
    return photo[: frame + 5] + struct.pack(">HH", 60_000, 60_000) + photo[frame + 9 :]


def huge_png(side: int) -> bytes:
    """Claims `side` × `side` pixels."""
    head = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    parts = struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))
    return b"\x89PNG\r\n\x1a\n" + parts + struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))


@pytest.mark.parametrize("kind", ["jpeg", "jpeg hidden", "png", "png above our limit", "gif"])
def test_a_decompression_bomb_is_refused_before_it_grows(kind, photo):
    big, small = huge_jpeg(photo), b"\xff\xc0" + struct.pack(">HBHHB", 17, 8, 10, 10, 3) + bytes(9)
    data = {
        "jpeg": big,
        # FF 00 is no marker: a reader that skips a segment after it finds the small frame, libjpeg the big one
        "jpeg hidden": big[:2] + b"\xff\x00" + struct.pack(">H", len(big) - 2) + big[2:] + small,
        "png": huge_png(60_000),
        "png above our limit": huge_png(9_500),  # Pillow itself would only warn
        "gif": b"GIF89a"
        + struct.pack("<HH", 60_000, 60_000)
        + bytes(3)
        + b",\0\0\0\0\x60\xea\x60\xea\0\x08"
        + bytes(9),
    }[kind]
    began = time.perf_counter()
    tracemalloc.start()
    with pytest.raises(DataError):
        decode(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000_000
    assert time.perf_counter() - began < 2


def test_a_line_that_would_grow_to_gigabytes_is_refused():
    data = encoded(Image.new("L", (100_000, 1)), "PNG")
    assert decode(data).shape == (3, 1, 100_000)
    with pytest.raises(DataError, match="too many"):
        centre(decode(data), 256, 224, "bilinear")


def test_the_largest_picture_of_imagenet_would_pass():
    data = encoded(Image.new("1", (6000, 6000)), "PNG")
    assert decode(data).shape == (3, 6000, 6000)


@given(st.lists(st.tuples(st.integers(0, 1 << 30), st.integers(0, 255)), min_size=1, max_size=6))
@settings(deadline=None, max_examples=300)
def test_damaged_bytes_give_a_picture_or_a_data_error(places):
    for data in DAMAGED:
        damaged = bytearray(data)
        for place, value in places:
            damaged[place % len(damaged)] = value
        try:
            image = decode(bytes(damaged))
        except DataError:
            continue
        assert image.dtype == torch.uint8
        assert image.shape[0] == 3


DAMAGED = [jpeg(1), jpeg(1, mode="CMYK"), jpeg(1, format="PNG"), jpeg(1, format="GIF"), jpeg(1, format="WEBP")]


SIZES = [(187, 250), (250, 187), (224, 224), (30, 200), (200, 30), (33, 31), (301, 999), (225, 223), (5, 7), (1, 1)]
ALLOWED = {"bilinear": 1, "bicubic": 8}


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_resizing_is_torchvisions_on_pillow(interpolation):
    """Bilinear within one level of 255, as both round; bicubic weights have 16 bits here and 22 there."""
    mode = v2.InterpolationMode(interpolation)
    differences = []
    for h, w in SIZES:
        picture = tile(h * 7 + w, w, h)
        for to in ((224, 224), (64, 96), (17, 300)):
            ours = resize(torch.from_numpy(np.array(picture)).permute(2, 0, 1), *to, interpolation)
            theirs = np.asarray(v2.Resize(to, mode)(picture)).astype(int)
            differences.append(np.abs(ours.permute(1, 2, 0).numpy() - theirs))
            assert differences[-1].max() <= ALLOWED[interpolation], (h, w, to)
    assert np.concatenate([d.ravel() for d in differences]).mean() < 0.06


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("short_side", "size"), [(256, 224), (232, 224), (64, 64), (72, 65), (40, 64)])
def test_the_central_crop_is_torchvisions(short_side, size, interpolation):
    """Also where it is larger than the picture, which is then padded."""
    mode = v2.InterpolationMode(interpolation)
    theirs = v2.Compose([v2.Resize(short_side, mode, antialias=True), v2.CenterCrop(size)])
    for h, w in SIZES:
        picture = tile(h * 5 + w, w, h)
        ours = centre(torch.from_numpy(np.array(picture)).permute(2, 0, 1), short_side, size, interpolation)
        assert difference(ours, np.asarray(theirs(picture)).astype(int)) <= ALLOWED[interpolation], (h, w)


def test_a_crop_is_resized_into_channels_last():
    """So that it is copied into a batch at once: the other layout took half as long again."""
    crop = decode(jpeg(1, 100, 120))[:, 3:80, 5:90]
    assert resize(crop, 64, 64, "bilinear")[None].is_contiguous(memory_format=torch.channels_last)
    assert resize(crop, 64, 64, "bilinear").stride() == (1, 192, 3)
    plain = torch.nn.functional.interpolate(crop[None].contiguous(), (64, 64), mode="bilinear", antialias=True)[0]
    assert torch.equal(resize(crop, 64, 64, "bilinear"), plain)
