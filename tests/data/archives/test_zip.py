import zipfile
from pathlib import Path

import pytest

from resnetctl.data.archives.zip import read_member, zip_members
from resnetctl.data.index import Index, IndexInfo, Record
from resnetctl.data.index_writer import IndexBuilder
from resnetctl.errors import DataError


def test_offsets_point_at_the_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.mkdir("folder")
        archive.writestr("folder/stored.txt", b"stored bytes")
        archive.writestr("deflated.txt", b"x" * 1000, zipfile.ZIP_DEFLATED)
        with archive.open(zipfile.ZipInfo("big.txt"), "w", force_zip64=True) as file:
            file.write(b"with a longer local header")
    data = path.read_bytes()
    stored, deflated, big = zip_members(path)
    assert data[stored.offset : stored.offset + stored.length] == b"stored bytes"
    assert data[big.offset : big.offset + big.length] == b"with a longer local header"
    assert (deflated.method, deflated.size) == (8, 1000)
    assert deflated.length < 100


def test_damage_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", b"a" * 100)
    whole = path.read_bytes()
    for damaged in (whole[:50], whole[:-1], b"", b"PK", whole.replace(b"PK\x03\x04", b"PK\x03\x05")):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match="damaged"):
            list(zip_members(path))
    path.write_bytes(whole.replace(b"\x14\x00\x00\x00\x00\x00", b"\x14\x00\x01\x00\x00\x00"))
    with pytest.raises(DataError, match="encrypted"):
        list(zip_members(path))
    for name in ("../a.txt", "/a.txt", "a/../../b.txt"):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(name, b"a")
        with pytest.raises(DataError, match="unsafe name"):
            list(zip_members(path))
    with pytest.raises(DataError, match="cannot read"):
        list(zip_members(tmp_path / "none.zip"))


def test_zip64_of_more_members_than_16_bits_count(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for n in range(70_000):
            archive.writestr(zipfile.ZipInfo(f"{n}"), b"%d" % n)
    found = list(zip_members(path))
    assert len(found) == 70_000
    data = path.read_bytes()
    assert all(data[m.offset : m.offset + m.length] == m.name.encode() for m in found)


def test_zip64_of_members_beyond_4_gib(tmp_path: Path) -> None:
    """As Kaggle's archive of 155 GB has them; the file is sparse."""
    path = tmp_path / "a.zip"
    gap = 5 << 30
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("first", b"1" * 100)
        archive.fp.seek(gap)
        archive.start_dir = gap
        archive.writestr("far", b"2" * 200)
        archive.writestr("farther", b"3" * 5000, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size > gap
    assert zipfile.ZipFile(path).read("farther") == b"3" * 5000
    first, far, farther = zip_members(path)
    assert far.offset > gap
    with path.open("rb") as file:
        file.seek(far.offset)
        assert file.read(far.length) == b"2" * 200
    assert read_member(path, first) == b"1" * 100
    assert read_member(path, farther) == b"3" * 5000
    index = IndexBuilder()
    for m in (far, farther):
        index.add(Record(f"a/{m.name}", "a.zip", m.offset, m.length, 0, 1, 1, m.method, m.crc32, m.size))
    index.write(tmp_path / "i", IndexInfo(split="train", source="kaggle", root=".", classes=("a",), class_names=("a",)))
    assert [Index(tmp_path / "i").read(i) for i in (0, 1)] == [b"2" * 200, b"3" * 5000]
