"""A `.tar.gz` made a `.tar` once."""

import gzip
import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from resnetctl.data.archives.gunzip import gunzip_file
from resnetctl.errors import DataError, ResnetctlError
from resnetctl.progress import silent


def test_the_content_and_how_far_it_is(tmp_path: Path) -> None:
    data = bytes(range(256)) * 10_000
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(data[:1000]) + gzip.compress(data[1000:]))
    seen: list[str] = []
    gunzip_file(tmp_path / "a.tar.gz", tmp_path / "a.tar", lambda what, *_: seen.append(what))
    assert (tmp_path / "a.tar").read_bytes() == data
    assert set(seen) == {"unpacking a.tar.gz (MB)"}


@pytest.mark.parametrize(
    ("packed", "match"),
    [
        (b"", "it is empty"),
        (gzip.compress(b""), "it is empty"),
        (b"no gzip", "damaged"),
        (gzip.compress(bytes(9))[:-3], "damaged"),
        (gzip.compress(bytes(100 << 20)), "it unpacks to more than"),
    ],
    ids=["empty", "of nothing", "text", "cut", "bomb"],
)
def test_what_is_damaged_leaves_nothing(tmp_path: Path, packed: bytes, match: str) -> None:
    (tmp_path / "a.tar.gz").write_bytes(packed)
    with pytest.raises(DataError, match=match):
        gunzip_file(tmp_path / "a.tar.gz", tmp_path / "a.tar", silent)
    assert [p.name for p in tmp_path.iterdir()] == ["a.tar.gz"]


def test_a_disk_without_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(bytes(9)))
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10, 10, 0))
    with pytest.raises(ResnetctlError, match="has to be unpacked once"):
        gunzip_file(tmp_path / "a.tar.gz", tmp_path / "a.tar", silent)
    assert not (tmp_path / "a.tar").exists()
