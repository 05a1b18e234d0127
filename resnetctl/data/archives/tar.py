"""A strict tar reader that locates members without reading them.

Hand-written because Python's `tarfile` accepts an archive truncated at or inside a header. Here an archive must end
with two zero blocks followed only by zeros, or it is damaged. Formats: v7, ustar, GNU (long names, large sizes) and
pax (`path`, `size`); POSIX.1-1988 and the GNU tar manual, "Basic Tar Format".
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NamedTuple

from resnetctl.data.archives.reader import Reader
from resnetctl.errors import DataError, printable

BLOCK = 512
HEAD_BYTES = 1536  # of a member's data, read in one go with its header: most image headers end within
MAX_TRAILER_BYTES = 16 << 20  # zeros after the end of an archive: tar pads it to a record, 10 KiB by default
_MAX_EXTENSION_BYTES = 1 << 20  # of a long name or a pax header
_ZERO = bytes(BLOCK)
_REGULAR = b"0\x007"  # 7: contiguous file, an old equivalent
_KINDS = {b"1": "hard link", b"2": "symbolic link", b"3": "device", b"4": "device", b"5": "folder", b"6": "pipe"}


class TarMember(NamedTuple):
    """One regular file of a tar: `size` bytes at `offset` of the file that holds the tar; `head`: its first bytes."""

    name: str
    offset: int
    size: int
    head: bytes


def tar_members(read: Reader, begin: int, end: int, what: str, *, folders: bool = False) -> Iterator[TarMember]:
    """The regular files of the tar that lies in bytes `begin` to `end`, in order; `what` names it in errors.

    Raises DataError if the archive is truncated or damaged anywhere, or if a member is not a regular file (folders are
    skipped if `folders` is set).
    """
    pos = begin
    long_name: bytes | None = None
    long_size: int | None = None
    while True:
        if pos + BLOCK > end:
            raise _damaged(what, pos, "the end-of-archive blocks are missing: it was cut short")
        chunk = read(min(BLOCK + HEAD_BYTES, end - pos), pos)
        header = chunk[:BLOCK]
        if len(header) < BLOCK:
            raise _damaged(what, pos, "it ends too early")
        if header == _ZERO:
            if long_name is not None or long_size is not None:
                raise _damaged(what, pos, "a long name without a member")
            _check_end(read, pos, end, what)
            return
        _check_sum(header, what, pos)
        kind, size = header[156:157], _number(header[124:136], what, pos)
        data = pos + BLOCK
        after = data + (size + BLOCK - 1) // BLOCK * BLOCK
        if kind in b"Lxg":
            extension = _extension(read, data, size, end, what)
            if kind == b"L":
                long_name = extension.rstrip(b"\0")
            elif kind == b"x":
                long_name, long_size = _pax(extension, what, pos, long_name)
            elif _pax(extension, what, pos, None) != (None, None):
                raise _damaged(what, pos, "a global header sets a name or a size")
            pos = after
            continue
        name = os.fsdecode(_short_name(header) if long_name is None else long_name)
        if long_size is not None:
            size, after = long_size, data + (long_size + BLOCK - 1) // BLOCK * BLOCK
        is_folder = kind == b"5" or (kind in _REGULAR and name.endswith("/"))
        if after > end:
            raise _damaged(what, pos, f"{printable(name)} extends past its end: it was cut short")
        if not is_folder:
            _check_kind(kind, name, what)
            yield TarMember(name, data, size, chunk[BLOCK : BLOCK + size])
        elif not folders:
            raise _refused(name, "folder", what)
        long_name = long_size = None
        pos = after


def _check_kind(kind: bytes, name: str, what: str) -> None:
    if kind not in _REGULAR:
        raise _refused(name, _KINDS.get(kind, f"member of type {printable(os.fsdecode(kind))}"), what)
    parts = name.split("/")
    if name.startswith("/") or ".." in parts or not name or "\0" in name:
        raise DataError(f"{printable(what)} holds a member with an unsafe name: {printable(name)}")


def _refused(name: str, kind: str, what: str) -> DataError:
    return DataError(f"{printable(what)} holds a {kind} where only files belong: {printable(name)}")


def _damaged(what: str, pos: int, why: str) -> DataError:
    return DataError(
        f"{printable(what)} is damaged at byte {pos:,}: {why}",
        hint="compare its size and checksum with the original's, and get it again",
    )


def _check_sum(header: bytes, what: str, pos: int) -> None:
    """The sum of the header's bytes, its own field taken as spaces, must be the number in that field."""
    stored = header[148:156]
    if sum(header) - sum(stored) + 8 * 0x20 != _octal(stored):
        raise _damaged(what, pos, "no valid member header")


def _octal(field: bytes) -> int:
    """The value of an octal field, or -1 if it is not one."""
    try:
        return int(field.strip(b" \0") or b"0", 8) if b"_" not in field else -1
    except ValueError:
        return -1


def _number(field: bytes, what: str, pos: int) -> int:
    """A size: octal digits, or GNU's base 256 where the first bit is set."""
    value = int.from_bytes(field[1:], "big") if field[0] == 0x80 else _octal(field)
    if not 0 <= value < 1 << 62:
        raise _damaged(what, pos, "a member's size is not a number")
    return value


def _short_name(header: bytes) -> bytes:
    name = header[:100].split(b"\0", 1)[0]
    if header[257:263] != b"ustar\0":  # GNU's format has times in place of ustar's prefix
        return name
    prefix = header[345:500].split(b"\0", 1)[0]
    return prefix + b"/" + name if prefix else name


def _extension(read: Reader, data: int, size: int, end: int, what: str) -> bytes:
    if size > _MAX_EXTENSION_BYTES:
        raise _damaged(what, data, "a long name of more than 1 MiB")
    if data + size > end:
        raise _damaged(what, data, "it ends inside a long name: it was cut short")
    return read(size, data)


def _pax(records: bytes, what: str, pos: int, name: bytes | None) -> tuple[bytes | None, int | None]:
    """`path` and `size` of a pax header, whose records are `<length> <key>=<value>\\n`; `name` if it has no path."""
    size = None
    while records:
        digits, space, rest = records.partition(b" ")
        length = int(digits) if digits.isdigit() and len(digits) < 8 else 0
        body = rest[: length - len(digits) - 1]
        key, equals, value = body[:-1].partition(b"=")
        if not (space and equals and body.endswith(b"\n") and length == len(digits) + 1 + len(body)):
            raise _damaged(what, pos, "unreadable pax header")
        if key == b"path":
            name = value
        elif key == b"size":
            size = int(value) if value.isdigit() and len(value) < 19 else -1
        elif key.startswith(b"GNU.sparse"):
            raise _damaged(what, pos, "a sparse member")
        records = records[length:]
    if size is not None and size < 0:
        raise _damaged(what, pos, "a member's size is not a number")
    return name, size


def _check_end(read: Reader, pos: int, end: int, what: str) -> None:
    """A zero block must be followed by a second one and only zeros up to `end`."""
    if end - pos < 2 * BLOCK:
        raise _damaged(what, pos, "the second end-of-archive block is missing: it was cut short")
    if end - pos > MAX_TRAILER_BYTES:
        raise _damaged(what, pos, f"a header is all zero, and {end - pos:,} bytes after it belong to no member")
    rest = read(end - pos, pos)
    if len(rest) < end - pos or rest.count(0) != len(rest):
        raise _damaged(what, pos, "a header is all zero, but other members follow: a block was wiped")
