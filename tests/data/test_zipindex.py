import zipfile
from pathlib import Path

import pytest

from resnetctl.data.zipindex import zip_members
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
