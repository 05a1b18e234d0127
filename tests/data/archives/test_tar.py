import io
import os
import random
import tarfile
from pathlib import Path

import pytest

from resnetctl.data.archives.reader import open_file
from resnetctl.data.archives.tar import BLOCK, TarMember, tar_members
from resnetctl.errors import DataError
from tests.fixtures.imagenet_archives import tar_of


def members(path: Path, data: bytes, folders: bool = False) -> list[TarMember]:
    path.write_bytes(data)
    with open_file(path) as (read, size):
        return list(tar_members(read, 0, size, path.name, folders=folders))


@pytest.fixture
def tar(tmp_path: Path) -> Path:
    return tmp_path / "a.tar"


FILES = [(f"n01440764_{i}.JPEG", bytes([i]) * (i * 211 % 2048)) for i in range(12)]
LONG = "x" * 130 + "/" + "y" * 150 + ".JPEG"


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_finds_what_tarfile_finds(tar: Path, format: int) -> None:
    files = [*FILES, ("folder/" * 15 + "deep.JPEG", b"deep")]
    if format != tarfile.USTAR_FORMAT:
        files += [(LONG, b"long"), ("schön\udcff.JPEG", b"odd")]
    data = tar_of(files, format)
    found = members(tar, data)
    with tarfile.open(fileobj=io.BytesIO(data)) as reference:
        assert [(m.name, m.offset, m.size) for m in found] == [(m.name, m.offset_data, m.size) for m in reference]
    assert [data[m.offset : m.offset + m.size] for m in found] == [content for _, content in files]
    assert all(
        content.startswith(m.head) and len(m.head) == min(1536, m.size)
        for m, (_, content) in zip(found, files, strict=True)
    )


def test_an_empty_tar_has_no_members(tar: Path) -> None:
    assert members(tar, tar_of([])) == []


def test_reads_a_tar_inside_a_tar(tar: Path) -> None:
    inner = tar_of(FILES)
    tar.write_bytes(tar_of([("one.tar", inner), ("two.tar", tar_of(FILES[:2]))]))
    with open_file(tar) as (read, size):
        one, two = tar_members(read, 0, size, "outer")
        found = list(tar_members(read, one.offset, one.offset + one.size, "one"))
        assert [read(m.size, m.offset) for m in found] == [content for _, content in FILES]
        assert len(list(tar_members(read, two.offset, two.offset + two.size, "two"))) == 2


def with_size_field(data: bytes, field: bytes) -> bytes:
    header = bytearray(data[:BLOCK])
    header[124:136] = field
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + data[BLOCK:]


def test_sizes_in_base_256(tar: Path) -> None:
    data = with_size_field(tar_of([("a", b"12345")]), b"\x80" + (5).to_bytes(11, "big"))
    assert [(m.name, m.size) for m in members(tar, data)] == [("a", 5)]


@pytest.mark.parametrize(
    "field",
    [b"\xff" * 12, b"\x80" + b"\xff" * 11, b"77777777777\0", b"-0000000012\0", b"1234567_012\0", b"cafe00000000"],
)
def test_a_senseless_size_is_damage(tar: Path, field: bytes) -> None:
    with pytest.raises(DataError):
        members(tar, with_size_field(tar_of(FILES), field))


def test_a_tar_cut_anywhere_is_noticed(tar: Path) -> None:
    """Python's tarfile takes most of these for whole archives."""
    data = tar_of(FILES)
    closing = data.rstrip(b"\0")
    whole = (len(closing) + BLOCK - 1) // BLOCK * BLOCK + 2 * BLOCK
    boundaries = set(range(0, whole, BLOCK))
    places = boundaries | {b + 1 for b in boundaries} | {b + 300 for b in boundaries} | {whole - 1}
    silently_read = 0
    for place in sorted(p for p in places if p < whole):
        with pytest.raises(DataError, match=r"damaged|cut"):
            members(tar, data[:place])
        try:
            with tarfile.open(fileobj=io.BytesIO(data[:place])) as reference:
                reference.getnames()
                silently_read += 1
        except tarfile.ReadError:
            pass
    assert len(members(tar, data[:whole])) == len(FILES)
    assert silently_read > 10  # else this reader would not be needed


def test_a_wiped_header_is_noticed(tar: Path) -> None:
    data = bytearray(tar_of(FILES))
    with tarfile.open(fileobj=io.BytesIO(data)) as reference:
        offsets = [m.offset for m in reference]
    for offset in offsets:
        wiped = bytearray(data)
        wiped[offset : offset + BLOCK] = bytes(BLOCK)
        with pytest.raises(DataError, match="all zero"):
            members(tar, bytes(wiped))


def test_any_flipped_bit_of_a_header_is_noticed(tar: Path) -> None:
    data, rng = tar_of(FILES), random.Random(0)
    for _ in range(100):
        at = rng.randrange(BLOCK)
        flipped = bytearray(data)
        flipped[at] ^= 1 << rng.randrange(8)
        if 148 <= at < 156 and flipped[at] in b" \0" and data[at] in b" \0":
            continue  # the checksum field may end in either
        with pytest.raises(DataError):
            members(tar, bytes(flipped))


def test_data_after_the_end_and_a_missing_second_block(tar: Path) -> None:
    data = tar_of(FILES)
    with pytest.raises(DataError, match="other members follow"):
        members(tar, data + b"more")
    blocks = len(data.rstrip(b"\0")) // BLOCK + 1
    with pytest.raises(DataError, match="second end-of-archive block"):
        members(tar, data[: (blocks + 1) * BLOCK])


def test_a_sea_of_zeros_is_not_read(tar: Path) -> None:
    tar.write_bytes(tar_of(FILES))
    os.truncate(tar, 1 << 40)
    with pytest.raises(DataError, match="belong to no member"), open_file(tar) as (read, size):
        list(tar_members(read, 0, size, "a.tar"))


def typed(name: str, kind: bytes, link: str = "") -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as tar:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, link
        tar.addfile(info)
    return file.getvalue()


@pytest.mark.parametrize(
    ("kind", "word"),
    [
        (tarfile.SYMTYPE, "symbolic link"),
        (tarfile.LNKTYPE, "hard link"),
        (tarfile.CHRTYPE, "device"),
        (tarfile.BLKTYPE, "device"),
        (tarfile.FIFOTYPE, "pipe"),
        (tarfile.DIRTYPE, "folder"),
        (tarfile.GNUTYPE_SPARSE, "type S"),
    ],
)
def test_links_devices_and_the_like_are_refused(tar: Path, kind: bytes, word: str) -> None:
    with pytest.raises(DataError, match=word):
        members(tar, typed("n01440764_1.JPEG", kind, "/etc/passwd"))


@pytest.mark.parametrize("name", ["../x.JPEG", "/etc/x.JPEG", "a/../../x.JPEG", "..", "a/.."])
def test_unsafe_names_are_refused(tar: Path, name: str) -> None:
    for format in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        with pytest.raises(DataError, match="unsafe name"):
            members(tar, tar_of([(name, b"x")], format))


def test_folders_are_skipped_where_they_are_allowed(tar: Path) -> None:
    assert members(tar, typed("data", tarfile.DIRTYPE), folders=True) == []
    assert [m.name for m in members(tar, tar_of([("data/x", b"1")]), folders=True)] == ["data/x"]


def pax_tar(records: bytes) -> bytes:
    plain = tar_of([("n01440764_1.JPEG", b"12345")])
    header = tarfile.TarInfo("h")
    header.type, header.size = tarfile.XHDTYPE, len(records)
    return header.tobuf() + records + bytes(-len(records) % BLOCK) + plain


def test_pax_sizes_and_damaged_pax_headers(tar: Path) -> None:
    assert members(tar, pax_tar(b"9 size=5\n"))[0].size == 5
    for bad in (
        b"9 size=x\n",
        b"99 path=a\n",
        b"9path=abc\n",
        b"0 path=a\n",
        b"9 size=-\n",
        b"22 GNU.sparse.size=12\n",
    ):
        with pytest.raises(DataError):
            members(tar, pax_tar(bad))


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "none.tar", tmp_path):
        with pytest.raises(DataError, match="cannot read"), open_file(path) as (read, _):
            list(tar_members(read, 0, 1024, "x"))


def test_members_beyond_8_gib(tar: Path) -> None:
    """Where octal digits end; the file is sparse."""
    with tar.open("wb") as file:
        for name, size in (("n01440764.tar", 9 << 30), ("n01443537.tar", 5)):
            info = tarfile.TarInfo(name)
            info.size = size
            file.write(info.tobuf(tarfile.GNU_FORMAT))
            file.seek((size + BLOCK - 1) // BLOCK * BLOCK, os.SEEK_CUR)
        file.truncate(file.tell() + 2 * BLOCK)
    with open_file(tar) as (read, size):
        found = [(m.name, m.offset, m.size) for m in tar_members(read, 0, size, "big")]
    assert found == [("n01440764.tar", 512, 9 << 30), ("n01443537.tar", 1024 + (9 << 30), 5)]
