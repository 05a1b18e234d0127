"""Locates the members of a zip, so that an index can point into it; nothing is unpacked.

Hand-written because Python's `zipfile` keeps a kilobyte for each member and does not tell where its bytes begin: here
the central directory is read in pieces, and two million members need no more memory than a few. PKWARE's APPNOTE 6.3.9:
4.3.12 central directory, 4.3.14 and 4.3.15 zip64, 4.3.16 its end, 4.5.3 the extra field of zip64.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from resnetctl.data.archives import DEFLATED, MAX_SAMPLE_BYTES, STORED
from resnetctl.data.archives.reader import Reader, open_file, section
from resnetctl.errors import DataError, printable

_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR64 = struct.Struct("<4sLQL")
_ENTRY = struct.Struct("<4s4B4HL2L5H2L")
_LOCAL = struct.Struct("<4s22xHH")
_MAX_COMMENT = 65535
_BLOCK = 1 << 20
_LOCAL_NAME = 256  # read in one go with the local header: name and extra are usually shorter
HEAD_BYTES = 2048
_UTF8 = 1 << 11


class ZipMember(NamedTuple):
    """One file of a zip: `length` stored bytes at `offset`, `size` bytes when decompressed.

    `head`: the first stored bytes, compressed if `method` says so.
    """

    name: str
    offset: int
    length: int
    size: int
    method: int
    crc32: int
    head: bytes


class _Entry(NamedTuple):
    name: str
    flags: int
    method: int
    crc32: int
    length: int
    size: int
    header: int


def zip_members(
    path: Path, wanted: Callable[[str], bool] = lambda name: True, max_bytes: int = MAX_SAMPLE_BYTES
) -> Iterator[ZipMember]:
    """The files of the zip at `path` whose names are `wanted`, in its own order, folders left out.

    Raises DataError if the zip is damaged, encrypted, or neither stored nor deflated, if a name leads outside, or if a
    wanted member has more than `max_bytes`.
    """
    with open_file(path) as (read, size):
        begin, end, count = _directory(path, read, size)
        found = 0
        for entry in _entries(path, read, begin, end):
            found += 1
            if not entry.name.endswith("/") and wanted(entry.name):
                yield _member(path, read, entry, begin, max_bytes)
        if found != count:
            raise _damaged(path, f"the central directory has {found:,} members instead of {count:,}")


def zip_names(path: Path) -> Iterator[str]:
    """The names of all files of the zip at `path`. Raises DataError if its directory is damaged."""
    with open_file(path) as (read, size):
        begin, end, _ = _directory(path, read, size)
        yield from (entry.name for entry in _entries(path, read, begin, end) if not entry.name.endswith("/"))


def inflated_head(member: ZipMember) -> bytes:
    """The first bytes of a member, decompressed; fewer, or none, if they are damaged."""
    if member.method == STORED:
        return member.head
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(member.head, HEAD_BYTES)
    except zlib.error:
        return b""


def member_reader(path: Path, member: ZipMember) -> Reader:
    """`read(count, offset)` of a member's own bytes, for the few whose head is not enough."""

    def read(count: int, offset: int) -> bytes:
        if member.method == STORED:
            with open_file(path) as (read_file, _):
                return section(read_file, member.offset, member.length)(count, offset)
        return read_member(path, member)[offset : offset + count]

    return read


def read_member(path: Path, member: ZipMember) -> bytes:
    """A whole member, decompressed and checked against its CRC."""
    with open_file(path) as (read_file, _):
        data = read_file(member.length, member.offset)
    if member.method == DEFLATED:
        inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            data = inflate.decompress(data, member.size + 1)
        except zlib.error as error:
            raise _damaged(path, f"{printable(member.name)} cannot be decompressed: {error}") from error
    if len(data) != member.size or zlib.crc32(data) != member.crc32:
        raise _damaged(path, f"{printable(member.name)} does not match its CRC")
    return data


def _directory(path: Path, read: Reader, size: int) -> tuple[int, int, int]:
    """Where the central directory begins and ends, and how many members it has."""
    tail_at = max(0, size - _END.size - _MAX_COMMENT)
    tail = read(size - tail_at, tail_at)
    place = len(tail) - _END.size
    while place >= 0 and not (
        tail[place : place + 4] == b"PK\x05\x06"
        and place + _END.size + int.from_bytes(tail[place + 20 : place + 22], "little") == len(tail)
    ):
        place = tail.rfind(b"PK\x05\x06", 0, place + 3) if place else -1
    if place < 0:
        raise _damaged(path, "the central directory is missing: not a zip, or cut short")
    _, disk, first_disk, here, count, length, begin, _ = _END.unpack_from(tail, place)
    end = tail_at + place
    locator = read(_LOCATOR64.size, end - _LOCATOR64.size) if end >= _LOCATOR64.size else b""
    if locator[:4] == b"PK\x06\x07" and len(locator) == _LOCATOR64.size:
        _, _, at, _ = _LOCATOR64.unpack(locator)
        end64 = read(_END64.size, at) if at + _END64.size <= end else b""
        if end64[:4] != b"PK\x06\x06" or len(end64) != _END64.size:
            raise _damaged(path, "the zip64 end record is missing")
        *_, disk, first_disk, here, count, length, begin = _END64.unpack(end64)
        end = at
    if disk or first_disk or here != count:
        raise _damaged(path, "it is one part of a split archive")
    if begin + length != end:
        raise _damaged(path, "the central directory is not where the end record says")
    return begin, end, count


def _entries(path: Path, read: Reader, begin: int, end: int) -> Iterator[_Entry]:
    data, at, place = b"", 0, begin  # data[at:] begins at byte `place` of the file
    while place < end:
        if len(data) - at < _ENTRY.size + 3 * _MAX_COMMENT and place + len(data) - at < end:
            data, at = read(min(_BLOCK, end - place), place), 0
        if len(data) - at < _ENTRY.size:
            raise _damaged(path, "the central directory is cut short")
        fields = _ENTRY.unpack_from(data, at)
        name_length, extra_length, comment_length = fields[12:15]
        whole = _ENTRY.size + name_length + extra_length + comment_length
        if fields[0] != b"PK\x01\x02" or at + whole > len(data):
            raise _damaged(path, f"the central directory is unreadable at byte {place:,}")
        name_at = at + _ENTRY.size
        raw = data[name_at : name_at + name_length]
        extra = data[name_at + name_length : name_at + name_length + extra_length]
        yield _entry(path, fields, raw, extra)
        at, place = at + whole, place + whole


def _entry(path: Path, fields: tuple[int, ...], raw: bytes, extra: bytes) -> _Entry:
    flags, method = fields[5], fields[6]
    crc32, length, size = fields[9:12]
    header = fields[-1]
    name = _name(raw, says_utf8=bool(flags & _UTF8))
    if 0xFFFFFFFF in (length, size, header):
        values = iter(_zip64(extra))
        try:
            size = next(values) if size == 0xFFFFFFFF else size
            length = next(values) if length == 0xFFFFFFFF else length
            header = next(values) if header == 0xFFFFFFFF else header
        except StopIteration:
            raise _damaged(path, f"{printable(name)} lacks its zip64 sizes") from None
    return _Entry(name, flags, method, crc32, length, size, header)


def _name(raw: bytes, says_utf8: bool) -> str:
    """macOS writes UTF-8 without flagging it; names in cp437 are hardly ever valid UTF-8."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("utf-8", "surrogateescape") if says_utf8 else raw.decode("cp437")


def _zip64(extra: bytes) -> list[int]:
    """The 64-bit numbers of the zip64 extra field (id 1)."""
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<HH", extra)
        if kind == 1:
            body = extra[4 : 4 + length]
            return list(struct.unpack_from(f"<{len(body) // 8}Q", body))
        extra = extra[4 + length :]
    return []


def _member(path: Path, read: Reader, entry: _Entry, end: int, max_bytes: int) -> ZipMember:
    name = printable(entry.name)
    if entry.name.startswith("/") or not entry.name or ".." in entry.name.split("/") or "\0" in entry.name:
        raise DataError(f"{printable(path)} holds a member with an unsafe name: {name}")
    if entry.flags & 1:
        raise DataError(f"{name} in {printable(path)} is encrypted")
    if entry.method not in (STORED, DEFLATED):
        raise DataError(f"{name} in {printable(path)} is compressed by method {entry.method}, not deflate")
    if max(entry.size, entry.length) > max_bytes or (entry.method == STORED and entry.size != entry.length):
        raise _damaged(path, f"{name} claims {entry.size:,} bytes")
    if entry.header + _LOCAL.size > end:
        raise _damaged(path, f"{name} begins past the end")
    chunk = read(min(_LOCAL.size + _LOCAL_NAME + HEAD_BYTES, end - entry.header), entry.header)
    signature, name_length, extra_length = _LOCAL.unpack_from(chunk.ljust(_LOCAL.size, b"\0"))
    if signature != b"PK\x03\x04":
        raise _damaged(path, f"no header where {name} should begin")
    at = _LOCAL.size + name_length + extra_length
    offset = entry.header + at
    if offset + entry.length > end:
        raise _damaged(path, f"{name} extends past the end")
    head = chunk[at : at + min(entry.length, HEAD_BYTES)]
    return ZipMember(entry.name, offset, entry.length, entry.size, entry.method, entry.crc32, head)


def _damaged(path: Path, why: str) -> DataError:
    return DataError(f"{printable(path)} is damaged: {why}", hint="download or copy it again")
