"""An optional JPEG decoder that decodes only the crop: NVIDIA's nvImageCodec, on the CPU.

Like the other decoders it is built on libjpeg-turbo and gives exactly the same pixels, but given a region, it neither
transforms what lies outside nor reads what lies below. Installed by the extra `nvimgcodec`; files that it does not
support are left to the decoders of whole files.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch

_OLDEST = (0, 9)


@cache
def why_not() -> str | None:
    """One line on why it cannot be used here; None if it can."""
    if not is_installed():
        return "it is not installed"
    try:
        if tuple(int(number) for number in version().split(".")[:2]) < _OLDEST:
            # older ones silently decode whole files in forked processes, or nothing without a GPU
            return f"it is version {version()}, and {_OLDEST[0]}.{_OLDEST[1]} or later is needed"
        _codec(os.getpid())
    except Exception as error:  # a library that does not fit the machine may raise anything
        return f"it does not run ({(str(error).strip() or type(error).__name__).splitlines()[0]})"
    return None


def is_installed() -> bool:
    """Whether any version of it is installed."""
    try:
        return find_spec("nvidia.nvimgcodec") is not None
    except ModuleNotFoundError:  # no package of NVIDIA's
        return False


def version() -> str:
    """The installed version."""
    return str(_module().__version__)


@cache
def _module() -> Any:
    with _no_stderr():  # it complains about every missing accelerator library, at any verbosity
        from nvidia import nvimgcodec
    return nvimgcodec


def decode_region(data: bytes, size: tuple[int, int], box: tuple[int, int, int, int]) -> torch.Tensor | None:
    """The pixels of `box` (top, left, height, width) of a JPEG of `size` (height, width): `[3, height, width] uint8`.

    None if the file is not a complete three-channel JPEG of that size: the other decoders then decide.
    """
    # the others refuse a truncated file; here one would go unnoticed if its end lies below the crop
    if data[:2] != b"\xff\xd8" or data[-2:] != b"\xff\xd9":
        return None
    codec, decoder, params = _codec(os.getpid())
    top, left, height, width = box
    try:
        stream = codec.CodeStream(data)
        if (stream.height, stream.width) != size or stream.num_channels != 3:
            return None
        region = codec.Region(top, left, top + height, left + width)
        image = decoder.decode(stream.get_sub_code_stream(region=region), params=params)
    except RuntimeError:
        return None
    if image is None or tuple(image.shape) != (height, width, 3):
        return None
    return torch.from_numpy(np.asarray(image)).permute(2, 0, 1)


@cache
def _codec(process: int) -> tuple[Any, Any, Any]:
    """(module, decoder, parameters) of this process: a decoder does not survive a fork."""
    codec = _module()
    with _no_stderr():  # again
        decoder = codec.Decoder(
            device_id=codec.NVIMGCODEC_DEVICE_CPU_ONLY,
            max_num_cpu_threads=1,  # the loader's workers are the parallelism
            backends=[codec.Backend(codec.BackendKind.CPU_ONLY)],
        )
    return codec, decoder, codec.DecodeParams(apply_exif_orientation=False, color_spec=codec.ColorSpec.SRGB)


@contextlib.contextmanager
def _no_stderr() -> Iterator[None]:
    sys.stderr.flush()
    saved, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nothing, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nothing)
