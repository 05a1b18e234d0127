"""Records of images: where the bytes are, the label, and the size in pixels from the header."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from resnetctl.data.archives import MAX_SAMPLE_BYTES
from resnetctl.data.archives.reader import Reader, open_file, section
from resnetctl.data.archives.tar import TarMember, tar_members
from resnetctl.data.archives.zip import ZipMember, inflated_head, member_reader, zip_members
from resnetctl.data.images.header import image_size
from resnetctl.data.index import Record
from resnetctl.errors import DataError, printable
from resnetctl.progress import Progress

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


Place = Callable[[str], tuple[str, int] | None]
"""The sample's name and label for the path of an archive's member, without `./`; None for one that is not wanted."""


def archive_records(archive: Path, split: str, place: Place, progress: Progress) -> Iterator[Record]:
    """The records of the members of a .zip or .tar that `place` wants, in the archive's order."""
    records = _zip_records if archive.suffix.lower() == ".zip" else _tar_records
    for done, record in enumerate(records(archive, place), 1):
        yield record
        progress(f"indexing {split}", done, None)


def _zip_records(archive: Path, place: Place) -> Iterator[Record]:
    for member in zip_members(archive, lambda name: place(os.path.normpath(name)) is not None):
        if placed := place(os.path.normpath(member.name)):
            yield zip_record(archive, member, *placed)


def _tar_records(archive: Path, place: Place) -> Iterator[Record]:
    with open_file(archive) as (read, size):
        for member in tar_members(read, 0, size, archive.name, folders=True):
            if placed := place(os.path.normpath(member.name)):
                yield tar_record(read, archive.name, member, *placed)


def _check_size(what: str, size: int) -> None:
    if size > MAX_SAMPLE_BYTES:
        raise DataError(f"{printable(what)} has {size:,} bytes, more than any photograph")
