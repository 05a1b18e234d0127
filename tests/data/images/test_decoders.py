"""Whichever library decodes, the pixels are the same; and what is told where the best one is not there."""

import io
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from resnetctl.data.images import decoders, nvimgcodec
from resnetctl.data.images.decode import decode
from resnetctl.data.images.decoders import WHOLE, choose_decoder, whole_decoder
from resnetctl.errors import DataError, UsageError
from tests.fixtures.photos import tile


def encoded(image: Image.Image, format: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def test_of_240_photographs_every_decoder_makes_the_same():
    """Many sizes, odd ones among them, qualities, kinds of chroma; baseline and progressive, with restart markers."""
    rng = np.random.default_rng(0)
    for number in range(240):
        width, height = (int(n) for n in rng.integers(1, 400, 2))
        options = {
            "quality": (5, 30, 50, 75, 85, 92, 96, 100)[number % 8],
            "subsampling": ("4:2:0", "4:2:2", "4:4:4")[number % 3],
            "progressive": number % 5 == 0,
            "restart_marker_rows": number % 7 == 0,
        }
        picture = tile(number, width, height).convert(("RGB", "RGB", "RGB", "L", "CMYK")[number % 11 % 5])
        data = encoded(picture, "JPEG", **options)
        ours, older, oldest = (decode(data, name) for name in WHOLE)
        tolerance = 1 if picture.mode == "CMYK" else 0
        assert whole_decoder("torchcodec")(data) is not None, "left to Pillow"
        assert torch.equal(ours, oldest)
        assert (ours.int() - older.int()).abs().max() <= tolerance
        for pixels in (ours, older, oldest):
            assert pixels[None].is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("format", ["PNG", "WEBP"])
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P"])
def test_torchcodec_reads_png_and_webp_too(format, mode):
    picture = tile(3, 61, 47).convert(mode)
    if format == "WEBP" and mode in "LP":
        picture = picture.convert("RGB")
    data = encoded(picture, format)
    pixels = whole_decoder("torchcodec")(data)
    assert pixels is not None
    assert torch.equal(pixels, decode(data, "pillow"))
    assert pixels[None].is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("name", WHOLE)
def test_a_file_cut_short_is_refused_by_each(name):
    for format in ("JPEG", "PNG", "WEBP"):
        data = encoded(tile(4, 61, 47), format)
        with pytest.raises(DataError):
            decode(data[:-200], name)


def test_the_choice(monkeypatch):
    best = "torchcodec" if nvimgcodec.why_not() else "nvimgcodec"
    assert choose_decoder("auto") == best
    for name in WHOLE:
        assert choose_decoder(name) == name
    monkeypatch.setattr(nvimgcodec, "why_not", lambda: "it is version 0.8.0, and 0.9 or later is needed")
    assert choose_decoder("auto") == "torchcodec"
    with pytest.raises(UsageError, match=r"nvimgcodec, which cannot be used here: it is version 0\.8\.0"):
        choose_decoder("nvimgcodec")


def test_nvimgcodec_that_is_too_old_is_left_aside_and_said(monkeypatch):
    monkeypatch.setattr(nvimgcodec, "is_installed", lambda: True)
    monkeypatch.setattr(nvimgcodec, "version", lambda: "0.8.0")
    nvimgcodec.why_not.cache_clear()
    try:
        assert choose_decoder("auto") == "torchcodec"
        assert decoders.decoder_notes("auto") == [
            "nvImageCodec is not used: it is version 0.8.0, and 0.9 or later is needed"
        ]
        assert decoders.decoder_notes("torchcodec") == []
    finally:
        nvimgcodec.why_not.cache_clear()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is one")
def test_without_a_gpu_it_cannot_be_chosen():
    with pytest.raises(UsageError, match="no CUDA device"):
        choose_decoder("cuda")


WITHOUT = """
import importlib.abc, sys

class Without(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in sys.argv[1:]:
            raise ImportError(f"No module named {name!r}")

sys.meta_path.insert(0, Without())
from resnetctl.data.images import decoders, nvimgcodec
nvimgcodec.is_installed = lambda: False
from resnetctl.data.images.decode import decode
data = sys.stdin.buffer.read()
print(decoders.choose_decoder("auto"), int(decode(data).sum()), "torchvision" in sys.modules, sep="\\n")
print(*decoders.decoder_notes("auto"), sep="\\n")
"""


@pytest.mark.parametrize(
    ("missing", "left", "told"),
    [
        ([], "torchcodec", ""),
        (["torchcodec"], "torchvision", "torchvision decodes the images, to the same pixels: TorchCodec does not load"),
        (["torchcodec", "torchvision"], "pillow", "Pillow decodes the images, to the same pixels: TorchCodec does not"),
    ],
)
def test_where_a_library_does_not_load_the_next_one_decodes(missing, left, told):
    """With the same pixels, with a note, and without the warning of torchvision that it will decode no more."""
    data = encoded(tile(2, 61, 47), "JPEG")
    command = [sys.executable, "-W", "default", "-c", WITHOUT, *missing]
    done = subprocess.run(command, input=data, capture_output=True, check=False, env=os.environ)
    assert done.returncode == 0, done.stderr
    assert b"TorchVision" not in done.stderr
    name, total, has_torchvision, note = done.stdout.decode().split("\n", 3)
    assert (name, total) == (left, str(int(decode(data).sum())))
    assert note.startswith(told)
    assert bool(note.strip()) == bool(told)
    assert has_torchvision == str(left == "torchvision"), "its import is slow, and only what decodes is imported"
