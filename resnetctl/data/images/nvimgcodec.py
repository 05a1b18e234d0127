"""An optional JPEG decoder that stops at the crop: NVIDIA's nvImageCodec, on the CPU.

It is built on libjpeg-turbo, as the other decoders are, and gives the very same pixels; but it can be told the region
that is wanted, and then neither transforms what lies outside nor reads what lies below. Installed by the extra
`nvimgcodec`; what it does not take is left to the decoders of whole files.
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
    """Why it cannot be used here, in a line; None where it can."""
    if not is_installed():
        return "it is not installed"
    try:
        if tuple(int(number) for number in version().split(".")[:2]) < _OLDEST:
            # older ones decode whole files in forked processes, or nothing without a GPU, and do not say so
            return f"it is version {version()}, and {_OLDEST[0]}.{_OLDEST[1]} or later is needed"
        _codec(os.getpid())
    except Exception as error:  # whatever a foreign library raises where it does not fit the machine
        return f"it does not run ({(str(error).strip() or type(error).__name__).splitlines()[0]})"
    return None


def is_installed() -> bool:
    """Whether there is any version of it."""
    try:
        return find_spec("nvidia.nvimgcodec") is not None
    except ModuleNotFoundError:  # nothing of NVIDIA's
        return False


def version() -> str:
    """The version that is installed."""
    return str(_module().__version__)


@cache
def _module() -> Any:
    with _no_stderr():  # it complains of each accelerator library that is not installed, at any verbosity
        from nvidia import nvimgcodec
    return nvimgcodec


def decode_region(data: bytes, size: tuple[int, int], box: tuple[int, int, int, int]) -> torch.Tensor | None:
    """The pixels of `box` (top, left, height, width) of a JPEG of `size` (height, width): `[3, height, width] uint8`.

    None where the file is anything but a whole three-channel JPEG of that size: then the others decide.
    """
    # the others refuse a file that ends too early; here one would go unseen where its end lies below the crop
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
