"""Records of images: where the bytes are, the label, and the size in pixels from the header."""

from __future__ import annotations

from pathlib import Path

from resnetctl.data.archives import MAX_SAMPLE_BYTES
from resnetctl.data.archives.reader import Reader, open_file, section
from resnetctl.data.archives.tar import TarMember
from resnetctl.data.archives.zip import ZipMember, inflated_head, member_reader
from resnetctl.data.images.header import image_size
from resnetctl.data.index import Record
from resnetctl.errors import DataError, printable

_HEAD_BYTES = 2048


def file_record(root: Path, container: str, name: str, label: int) -> Record:
    """The record of an image file. Raises DataError if it cannot be read."""
    with open_file(root / container) as (read, size):
        _check_size(str(root / container), size)
        height, width = image_size(read(_HEAD_BYTES, 0), section(read, 0, size))
    return Record(name, container, 0, size, label, height, width)


def tar_record(read: Reader, container: str, member: TarMember, name: str, label: int) -> Record:
    """The record of a tar's member, whose archive `read` reads."""
    _check_size(f"{container}: {member.name}", member.size)
    height, width = image_size(member.head, section(read, member.offset, member.size))
    return Record(name, container, member.offset, member.size, label, height, width)


def zip_record(archive: Path, member: ZipMember, name: str, label: int) -> Record:
    """The record of a member of the zip at `archive`, stored or deflated."""
    height, width = image_size(inflated_head(member), member_reader(archive, member))
    place = (archive.name, member.offset, member.length)
    return Record(name, *place, label, height, width, member.method, member.crc32, member.size)


def _check_size(what: str, size: int) -> None:
    if size > MAX_SAMPLE_BYTES:
        raise DataError(f"{printable(what)} has {size:,} bytes, more than any photograph")
