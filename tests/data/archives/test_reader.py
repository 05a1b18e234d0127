"""Bytes of a file by their place."""

import os
from pathlib import Path

import pytest

from resnetctl.data.archives.reader import of_bytes, open_file, section
from resnetctl.errors import DataError


def test_bytes_of_a_file_and_its_size(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"0123456789")
    with open_file(tmp_path / "a") as (read, size):
        assert (size, read(3, 4), read(9, 8), read(1, 20)) == (10, b"456", b"89", b"")


def test_a_section_shows_nothing_around_it() -> None:
    read = section(of_bytes(b"0123456789"), 2, 5)
    assert (read(3, 0), read(9, 3), read(1, 5), read(1, 9)) == (b"234", b"56", b"", b"")


@pytest.mark.parametrize("name", ["missing", "."])
def test_what_cannot_be_read(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="cannot read"), open_file(tmp_path / name) as (read, _):
        read(1, 0)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="cannot read"), open_file(tmp_path / "pipe") as (read, _):
        read(1, 0)
