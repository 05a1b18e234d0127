"""Where the members of a zip lie, so that an index can point into it."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from resnetctl.data.index import DEFLATED, MAX_SAMPLE_BYTES, STORED
from resnetctl.errors import DataError, printable

_LOCAL_HEADER = struct.Struct("<4s22xHH")  # PKWARE APPNOTE 4.3.7: signature, ..., name length, extra length


class ZipMember(NamedTuple):
    """One file of a zip: `length` stored bytes at `offset`, `size` bytes when decompressed."""

    name: str
    offset: int
    length: int
    size: int
    method: int
    crc32: int


def zip_members(path: Path) -> Iterator[ZipMember]:
    """The files of the zip at `path`, in its own order, folders left out.

    Raises DataError where the zip is damaged, encrypted, or compressed in another way than stored or deflated,
    and where a name leads outside.
    """
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            for info in archive.infolist():
                if not info.filename.endswith("/"):
                    yield _member(path, file, info)
    except OSError as error:
        raise DataError(f"cannot read {printable(path)}: {error.strerror}") from error
    except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error) as error:
        if isinstance(error, DataError):
            raise
        raise _damaged(path, printable(error)) from error


def _member(path: Path, file: BinaryIO, info: zipfile.ZipInfo) -> ZipMember:
    name = printable(info.filename)
    if not info.filename or info.filename.startswith("/") or ".." in info.filename.split("/"):
        raise DataError(f"{printable(path)} holds a member with an unsafe name: {name}")
    if info.flag_bits & 1:
        raise DataError(f"{name} in {printable(path)} is encrypted")
    if info.compress_type not in (STORED, DEFLATED):
        raise DataError(f"{name} in {printable(path)} is compressed by method {info.compress_type}, not deflate")
    if max(info.file_size, info.compress_size) > MAX_SAMPLE_BYTES:
        raise _damaged(path, f"{name} claims {info.file_size} bytes")
    file.seek(info.header_offset)
    signature, name_length, extra_length = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
    if signature != b"PK\x03\x04":
        raise _damaged(path, f"there is no header where {name} should begin")
    offset = info.header_offset + _LOCAL_HEADER.size + name_length + extra_length
    return ZipMember(info.filename, offset, info.compress_size, info.file_size, info.compress_type, info.CRC)


def _damaged(path: Path, why: str) -> DataError:
    return DataError(f"{printable(path)} is damaged: {why}", hint="get it again from where it came")
