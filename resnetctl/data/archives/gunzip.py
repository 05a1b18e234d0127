"""Unpacks a `.tar.gz` to a `.tar`, once: nothing inside a gzip stream can be read in place."""

from __future__ import annotations

import gzip
import os
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO

from resnetctl.errors import DataError, ResnetctlError, cannot_read, printable
from resnetctl.files import atomic_file, write_all
from resnetctl.progress import Progress

_BLOCK = 1 << 20
_SLACK_BYTES, _MAX_RATIO = 64 << 20, 4  # JPEGs hardly compress: anything that grows far beyond this is a bomb
_MB = 1_000_000


def gunzip(packed: IO[bytes], size: int, what: str, target: Path, progress: Progress) -> None:
    """Unpack the gzip stream `packed` of `size` bytes to `target`, atomically; `what` names it in messages.

    Raises DataError if it is damaged, truncated or a bomb, and ResnetctlError, before writing anything, if the disk
    has no room for it.
    """
    free = shutil.disk_usage(target.parent).free
    if free < size:
        raise ResnetctlError(
            f"{printable(what)} has to be unpacked once, which needs {size / 1e9:.1f} GB or more in "
            f"{printable(target.parent)}; {free / 1e9:.1f} GB are free",
            hint="free some space, or choose a data root on another disk with --data",
        )
    counted = _Counted(packed, lambda done: progress(f"unpacking {Path(what).name} (MB)", done // _MB, size // _MB))
    limit, written = _SLACK_BYTES + _MAX_RATIO * size, 0
    try:
        with gzip.GzipFile(fileobj=counted) as stream, atomic_file(target) as fd:  # type: ignore[call-overload]
            while data := stream.read(_BLOCK):
                written += len(data)
                if written > limit:
                    raise _damaged(what, f"it unpacks to more than {limit / 1e6:,.0f} MB")
                write_all(fd, data)
            if not written:
                raise _damaged(what, "it is empty")
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise _damaged(what, printable(error)) from error


class _Counted:
    """A stream that reports how far it has been read."""

    def __init__(self, stream: IO[bytes], tell: Callable[[int], None]) -> None:
        self._stream, self._tell, self._done = stream, tell, 0

    def read(self, count: int = -1) -> bytes:
        data = self._stream.read(count)
        self._done += len(data)
        self._tell(self._done)
        return data


def gunzip_file(path: Path, target: Path, progress: Progress) -> None:
    """`gunzip` of the file at `path`."""
    try:
        with path.open("rb") as packed:
            gunzip(packed, os.fstat(packed.fileno()).st_size, str(path), target, progress)
    except IsADirectoryError as error:
        raise cannot_read(path, error) from error


def _damaged(what: str, why: str) -> DataError:
    return DataError(f"{printable(what)} is damaged: {why}", hint="download or copy it again")
