import io

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from resnetctl.data.images.decode import decode
from resnetctl.data.images.orientation import orientation, turned
from tests.fixtures.photos import tile


def photo(way: int, format: str = "JPEG") -> bytes:
    exif, file = Image.Exif(), io.BytesIO()
    exif[0x0112] = way
    options = {"lossless": True} if format == "WEBP" else {}
    tile(3, 60, 40).save(file, format, exif=exif, **options)
    return file.getvalue()


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "AVIF"])
@pytest.mark.parametrize("way", range(1, 9))
def test_a_picture_is_turned_as_pillow_turns_it(way, format):
    data = photo(way, format)
    assert orientation(data) == way
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))
    assert np.array_equal(turned(decode(data), way).permute(1, 2, 0).numpy(), expected)


def test_pillow_turns_a_tiff_by_itself():
    data = photo(6, "TIFF")
    assert orientation(data) == 1
    assert decode(data).shape == (3, 60, 40)


@pytest.mark.parametrize("way", [0, 9, 255])
def test_a_way_that_there_is_not_is_none(way):
    assert orientation(photo(way)) == 1


def test_without_exif_a_picture_is_upright():
    file = io.BytesIO()
    tile(3, 60, 40).save(file, "JPEG")
    assert orientation(file.getvalue()) == 1
    assert orientation(b"") == orientation(b"\xff\xd8 no picture, Exif\0\0 though") == 1


def test_corrupt_exif_says_nothing():
    data = photo(6)
    at = data.index(b"Exif\0\0") + 6
    for cut in range(0, 24, 3):
        damaged = data[: at + cut] + b"\xff" * 6 + data[at + cut + 6 :]
        assert orientation(damaged) in range(1, 9)


def test_the_value_of_nothing_turned_is_the_picture_itself():
    image = torch.arange(24).reshape(3, 2, 4)
    assert turned(image, 1) is image
