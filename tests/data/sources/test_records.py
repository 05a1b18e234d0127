"""The record of an image, wherever it lies."""

import zipfile
from pathlib import Path

import pytest

from resnetctl.data.archives import MAX_SAMPLE_BYTES
from resnetctl.data.archives.reader import open_file
from resnetctl.data.archives.tar import TarMember, tar_members
from resnetctl.data.archives.zip import zip_members
from resnetctl.data.sources.records import file_record, tar_record, zip_record
from resnetctl.errors import DataError
from tests.fixtures.imagenet_archives import jpeg, tar_of

DATA = jpeg(1, 30, 40)


def test_a_file(tmp_path: Path) -> None:
    (tmp_path / "1.jpg").write_bytes(DATA)
    record = file_record(tmp_path, "1.jpg", "cat/1.jpg", 3)
    assert (record.name, record.container, record.offset, record.length) == ("cat/1.jpg", "1.jpg", 0, len(DATA))
    assert (record.label, record.height, record.width) == (3, 30, 40)


def test_a_member_of_a_tar(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(tar_of([("1.jpg", DATA)]))
    with open_file(tmp_path / "a.tar") as (read, size):
        (member,) = tar_members(read, 0, size, "a.tar")
        record = tar_record(read, "a.tar", member, "cat/1.jpg", 3)
        assert read(record.length, record.offset) == DATA
    assert (record.label, record.height, record.width) == (3, 30, 40)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_member_of_a_zip(tmp_path: Path, method: int) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", method) as archive:
        archive.writestr("1.jpg", DATA)
    (member,) = zip_members(tmp_path / "a.zip")
    record = zip_record(tmp_path / "a.zip", member, "cat/1.jpg", 3)
    assert (record.method, record.size) == (method, len(DATA))
    assert (record.label, record.height, record.width) == (3, 30, 40)


def test_no_photograph_is_that_large() -> None:
    member = TarMember("1.jpg", 0, MAX_SAMPLE_BYTES + 1, b"")
    with pytest.raises(DataError, match=r"a\.tar: 1\.jpg has .* bytes, more than any photograph"):
        tar_record(lambda count, offset: b"", "a.tar", member, "cat/1.jpg", 0)
