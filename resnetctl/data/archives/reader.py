"""Random access to a file's bytes, which is all that locating images in an archive takes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from resnetctl.errors import cannot_read

Reader = Callable[[int, int], bytes]
"""`read(count, offset)`: up to `count` bytes at `offset`, like os.pread."""


@contextlib.contextmanager
def open_file(path: Path) -> Iterator[tuple[Reader, int]]:
    """A reader of the file at `path`, and its size in bytes. Raises DataError if it cannot be read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # opening a pipe would wait for its writer
    except OSError as error:
        raise cannot_read(path, error) from error

    def read(count: int, offset: int) -> bytes:
        try:
            return os.pread(fd, count, offset)
        except OSError as error:
            raise cannot_read(path, error) from error

    try:
        yield read, os.fstat(fd).st_size
    finally:
        os.close(fd)


def of_bytes(data: bytes) -> Reader:
    """A reader of `data`."""
    return lambda count, offset: data[offset : offset + count]


def section(read: Reader, begin: int, length: int) -> Reader:
    """A reader of the `length` bytes from `begin` on, and of nothing around them."""
    return lambda count, offset: read(max(0, min(count, length - offset)), begin + offset)
