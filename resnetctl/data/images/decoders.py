"""The libraries that decode whole images, and the choice of one for a run.

TorchCodec, torchvision (whose decoders its release 0.29 deprecates), or Pillow: each gives the same pixels.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from importlib.metadata import version
from typing import Any

import torch

from resnetctl.data.images import nvimgcodec
from resnetctl.data.images.unturned import unturned
from resnetctl.errors import UsageError

WHOLE = ("torchcodec", "torchvision", "pillow")
"""Decoders of whole images, best first."""
_NAMES = {"torchcodec": "TorchCodec", "torchvision": "torchvision", "pillow": "Pillow"}
WholeDecoder = Callable[[bytes], torch.Tensor | None]
"""An image file to `[3, H, W] uint8` RGB, channels last in memory; None: left to Pillow."""


def _torchcodec() -> WholeDecoder:
    from torchcodec.decoders import decode_jpeg, decode_png, decode_webp

    kinds: dict[bytes, Callable[..., Any]] = {b"\xff\xd8": decode_jpeg, b"\x89P": decode_png, b"RI": decode_webp}

    def decode(data: bytes) -> torch.Tensor | None:
        file = unturned(data)
        if file is None:
            return None
        try:
            pixels: torch.Tensor = kinds[data[:2]](torch.frombuffer(file, dtype=torch.uint8), mode="RGB")
        except RuntimeError:  # an unusual or broken file: Pillow supports more formats and says what is wrong
            return None
        return pixels

    return decode


def _torchvision() -> WholeDecoder:
    warnings.filterwarnings("ignore", "The image decoding and encoding capabilities of TorchVision", DeprecationWarning)
    from torchvision.io import ImageReadMode, decode_jpeg

    def decode(data: bytes) -> torch.Tensor | None:
        if data[:2] != b"\xff\xd8":
            return None
        file = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        try:
            pixels: torch.Tensor = decode_jpeg(file, mode=ImageReadMode.RGB)
        except RuntimeError:
            return None
        return pixels

    return decode


def _pillow() -> WholeDecoder:
    return lambda data: None


_LOADERS = {"torchcodec": _torchcodec, "torchvision": _torchvision, "pillow": _pillow}


@cache
def _load(name: str) -> WholeDecoder | str:
    """The decoder called `name`, or one line on why it does not load here."""
    try:
        return _LOADERS[name]()
    except Exception as error:  # a library incompatible with torch or the system may raise anything
        first: BaseException = error
        while first.__cause__ is not None:  # names the missing shared library
            first = first.__cause__
        return (str(first).strip() or type(first).__name__).splitlines()[0]


@cache
def first_whole() -> str:
    """The first of WHOLE that loads here."""
    return next(name for name in WHOLE if not isinstance(_load(name), str))


@cache
def whole_decoder(name: str) -> WholeDecoder:
    """The decoder called `name`, one of WHOLE; for other names of `choose_decoder` the first of WHOLE that loads."""
    decoder = _load(name if name in WHOLE else first_whole())
    assert not isinstance(decoder, str), decoder
    return decoder


def choose_decoder(wanted: str) -> str:
    """The decoder for `data.decoder`: `auto` is nvimgcodec where it is installed, else the first of WHOLE that loads.

    Raises UsageError if one is requested by name and not available.
    """
    if wanted == "auto":
        return first_whole() if nvimgcodec.why_not() else "nvimgcodec"
    why_not, hint = nvimgcodec.why_not(), "pip install -U 'resnetctl[nvimgcodec]', or --set data.decoder=auto"
    if wanted in (*WHOLE, "cuda"):
        loaded = _load("torchcodec" if wanted == "cuda" else wanted)
        why_not, hint = loaded if isinstance(loaded, str) else None, "--set data.decoder=auto"
        if wanted == "cuda" and not torch.cuda.is_available():
            why_not = "no CUDA device"
    if why_not:
        raise UsageError(f"data.decoder is {wanted}, which cannot be used here: {why_not}", hint=hint)
    return wanted


def with_version(decoder: str) -> str:
    """`decoder` and its version, "torchcodec 0.17.0": on which the bits of a result may depend."""
    if decoder == "nvimgcodec":
        return f"{decoder} {nvimgcodec.version()}"
    return f"{decoder} {version('torchcodec' if decoder == 'cuda' else decoder)}"


def decoder_notes(wanted: str) -> list[str]:
    """Notices, given once, of preferred decoders that `data.decoder` = `wanted` could not use."""
    notes = []
    if wanted == "auto" and nvimgcodec.is_installed() and (why_not := nvimgcodec.why_not()):
        notes.append(f"nvImageCodec is not used: {why_not}")
    best, used = WHOLE[0], first_whole()
    if wanted in ("auto", "nvimgcodec") and used != best:
        notes.append(
            f"{_NAMES[used]} decodes the images, to the same pixels: {_NAMES[best]} does not load ({_load(best)})"
        )
    return notes
