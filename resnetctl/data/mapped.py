"""Memory-maps a safetensors file of numbers.

Hand-written because the library's reader copies what it reads: starting on 1.28 million images maps one file instead,
and loader processes share it.
"""

from __future__ import annotations

import json
import mmap
import os
from pathlib import Path

import numpy as np

from resnetctl.errors import DataError, cannot_read, printable

_MAX_HEADER_BYTES = 64 << 20
_DTYPES = {"U8": np.uint8, "I32": np.int32, "I64": np.int64}


def damaged(path: Path, why: str) -> DataError:
    """The error for an invalid index file."""
    return DataError(f"{printable(path)} is not a readable index: {printable(why)}", hint="run resnetctl prepare again")


def map_safetensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Every tensor of a safetensors file as a read-only mapped array, and its metadata; bounds are checked first."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            header_bytes = int.from_bytes(file.read(8), "little")
            if size < 8 or header_bytes > min(_MAX_HEADER_BYTES, size - 8):
                raise damaged(path, "its header is longer than the file")
            header = json.loads(file.read(header_bytes))
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        metadata = header.pop("__metadata__", {})
        arrays = {}
        for key, entry in header.items():
            begin, end = entry["data_offsets"]
            dtype = np.dtype(_DTYPES[entry["dtype"]])
            (count,) = entry["shape"]
            if not 0 <= begin <= end <= size - 8 - header_bytes or end - begin != count * dtype.itemsize:
                raise ValueError(f"{key} lies outside the file")
            arrays[key] = np.frombuffer(data, dtype, count, 8 + header_bytes + begin)
    except FileNotFoundError:
        raise DataError(f"no index at {printable(path)}", hint="run: resnetctl prepare") from None
    except OSError as error:
        raise cannot_read(path, error) from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        if isinstance(error, DataError):
            raise
        raise damaged(path, str(error)) from error
    return arrays, metadata


def pack_strings(key: str, strings: list[bytes]) -> dict[str, np.ndarray]:
    """`strings` as two arrays: all their bytes, `[total] uint8`, and where each ends, `[N] int64`."""
    blob = np.frombuffer(b"".join(strings) or b"\0", np.uint8)
    return {f"{key}_bytes": blob, f"{key}_ends": np.cumsum([len(s) for s in strings], dtype=np.int64)}
