"""The index: sorted, the same however the data are held, mapped, and never believed when damaged."""

import contextlib
import gc
import json
import os
import random
import subprocess
import sys
import time
import tracemalloc
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import load_file as plain_load_file
from safetensors.numpy import save_file

from resnetctl.data.archives import DEFLATED, MAX_SAMPLE_BYTES
from resnetctl.data.index import UNKNOWN_CRC, Index, IndexInfo, Record, file_order, index_path, open_unchanged
from resnetctl.data.index_writer import IndexBuilder, with_findings
from resnetctl.errors import DataError
from tests.fixtures.small_index import pictures, write_index

INFO = IndexInfo(split="train", source="folder", root=".", classes=("a", "b"), class_names=("Ah", "Bee"))
RECORDS = [
    Record("b/2.jpg", "one.tar", 512, 100, 1, 30, 40, crc32=7),
    Record("a/10.jpg", "one.tar", 1024, 200, 0, 31, 41),
    Record("b/1.jpg", "two.zip", 0, 50, 1, 32, 42, DEFLATED, 0xFFFFFFFF, 500),
    Record("a/9.jpg", "two.zip", 1 << 40, 300, 0),
    Record("a/\udcff\n[/].jpg", "three", 5, 0, 0),
]
SORTED = [RECORDS[1], RECORDS[3], RECORDS[4], RECORDS[2], RECORDS[0]]


def build(path: Path, records=RECORDS, info=INFO) -> Index:
    builder = IndexBuilder()
    for record in records:
        builder.add(record)
    builder.write(path, info)
    return Index(path)


def test_records_come_back_sorted_by_label_and_name(tmp_path):
    index = build(tmp_path / "x")
    assert list(index) == [r._replace(size=r.length if r.size < 0 else r.size) for r in SORTED]
    assert len(index) == 5
    assert index.path == tmp_path / "x"
    assert not index.include_quarantined
    assert index.label.tolist() == [0, 0, 0, 1, 1]
    assert index.containers == 3
    assert index.info == replace(
        INFO, fingerprint=index.info.fingerprint, whole_fingerprint=index.info.whole_fingerprint
    )


def test_the_file_is_plain_safetensors_of_a_few_bytes_a_sample(tmp_path):
    build(tmp_path / "x", [Record(f"a/n01440764_{i}.JPEG", "t.tar", i * 1000, 900, 0) for i in range(5000)])
    columns = plain_load_file(tmp_path / "x")
    assert columns["offset"].tolist() == Index(tmp_path / "x").offset.tolist()
    assert (tmp_path / "x").stat().st_size < 5000 * 90


@given(st.randoms())
@settings(deadline=None, max_examples=30)
def test_the_order_in_which_a_source_lists_its_samples_changes_nothing(tmp_path_factory, rng: random.Random):
    folder = tmp_path_factory.mktemp("order")
    shuffled = RECORDS[:]
    rng.shuffle(shuffled)
    first, second = build(folder / "a"), build(folder / "b", shuffled)
    assert list(first) == list(second)
    assert first.info == second.info


def test_the_fingerprint_is_that_of_the_pictures_not_of_where_they_lie(tmp_path):
    def fingerprint(records, info=INFO):
        return build(tmp_path / "x", records, info).info.fingerprint

    first = fingerprint(RECORDS)
    moved = [r._replace(container=f"{i}.tar", offset=i, crc32=UNKNOWN_CRC) for i, r in enumerate(RECORDS)]
    assert fingerprint(moved, replace(INFO, source="pack", root="/elsewhere", notes=("x",))) == first
    stored = [r._replace(method=0, length=500, size=-1) if r.method else r for r in RECORDS]
    assert fingerprint(stored) == first
    others = [
        RECORDS[1:],
        [RECORDS[0]._replace(name="b/3.jpg"), *RECORDS[1:]],
        [RECORDS[0]._replace(length=101), *RECORDS[1:]],
        [RECORDS[0]._replace(label=0), *RECORDS[1:]],
    ]
    found = [fingerprint(records) for records in others]
    found.append(fingerprint(RECORDS, replace(INFO, classes=("a", "c"))))
    assert len({first, *found}) == 6


def test_an_index_is_replaced_as_a_whole_while_another_process_reads_it(tmp_path):
    path = tmp_path / "x"
    old = build(path)
    before = list(old)
    build(path, RECORDS[:2])
    assert list(old) == before
    assert len(Index(path)) == 2


def test_an_index_is_opened_again_only_with_the_fingerprint_it_had(tmp_path):
    path = tmp_path / "x"
    fingerprint = build(path).info.fingerprint
    assert list(open_unchanged(path, fingerprint)) == list(open_unchanged(path, None)) == list(Index(path))
    build(path, RECORDS[:2])
    assert len(open_unchanged(path, None)) == 2
    with pytest.raises(DataError) as caught:
        open_unchanged(path, fingerprint)
    assert caught.value.message == f"{path} was replaced while it was in use, by resnetctl prepare or verify"
    assert "resume again" in caught.value.hint


def test_empty_names_are_names(tmp_path):
    index = build(tmp_path / "x", [Record("", "", 3, 4, 0), Record("b", "c", 1, 2, 0)])
    assert [(r.name, r.container) for r in index] == [("", ""), ("b", "c")]


@pytest.mark.parametrize("numbers", [(), (0,), (3, 1), (0, 1, 2, 3, 4)])
def test_samples_in_quarantine_come_last_in_the_file(numbers):
    order = file_order(5, numbers)
    assert order.dtype == np.int64
    assert order.tolist() == [i for i in range(5) if i not in numbers] + list(numbers)


def test_containers_are_found_beside_the_index_or_where_it_says(tmp_path):
    inside = build(tmp_path / "x", info=replace(INFO, root="sub/../images"))
    assert inside.container_path(0) == tmp_path / "images" / "one.tar"
    outside = build(tmp_path / "x", info=replace(INFO, root="/srv/images"))
    assert outside.container_path(1) == Path("/srv/images/two.zip")


# --- reading ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_samples_are_read_from_inside_a_container(method, tmp_path):
    files = {"a/1": b"", "a/2": b"x" * 5000, "b/3": os.urandom(3000)}
    records = []
    with zipfile.ZipFile(tmp_path / "z.zip", "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
        for info in archive.infolist():
            offset = info.header_offset + 30 + len(info.filename)
            label = "ab".index(info.filename[0])
            size = info.file_size
            records.append(
                Record(info.filename, "z.zip", offset, info.compress_size, label, 0, 0, info.compress_type, size=size)
            )
    index = build(tmp_path / "x", records)
    assert [index.read(i) for i in range(3)] == list(files.values())


def deflated(data: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


@pytest.mark.parametrize(
    ("stored", "size"),
    [
        (deflated(b"x" * 1000), 999),
        (deflated(b"x" * 1000), 1001),
        (deflated(b"x" * 1000)[:-3], 1000),
        (b"\xff" * 20, 1000),
    ],
)
def test_deflated_bytes_that_are_not_what_they_claim_are_refused(stored, size, tmp_path):
    (tmp_path / "z").write_bytes(stored)
    index = build(tmp_path / "x", [Record("a/1", "z", 0, len(stored), 0, 0, 0, DEFLATED, size=size)])
    with pytest.raises(DataError, match=r"^a/1 cannot be decompressed: ") as caught:
        index.read(0)
    said = "invalid block type" if stored[0] == 0xFF else f"not the {size:,} bytes that the archive claims"
    assert said in caught.value.message


def test_a_bomb_is_not_let_off(tmp_path):
    """48 KB that become 48 MB, and claim to be 10 bytes."""
    stored = deflated(bytes(50_000_000))
    (tmp_path / "z").write_bytes(stored)
    index = build(tmp_path / "x", [Record("a/1", "z", 0, len(stored), 0, 0, 0, DEFLATED, size=10)])
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="not the 10 bytes that the archive claims"):
            index.read(0)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_a_container_that_was_cut_moved_or_replaced_by_a_folder(tmp_path):
    files = pictures(1, 1)
    (name,) = files
    path = write_index(tmp_path, files)
    picture = tmp_path / "train" / name
    data = picture.read_bytes()
    picture.write_bytes(data[:-1])
    with pytest.raises(DataError, match="ends before") as cut:
        Index(path).read(0)
    assert "prepare" in cut.value.hint
    picture.unlink()
    with pytest.raises(DataError, match="No such file") as gone:
        Index(path).read(0)
    assert "prepare" in gone.value.hint
    picture.mkdir()
    with pytest.raises(DataError, match="cannot read"):
        Index(path).read(0)


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize(("count", "held"), [(600, 512), (4097, 0)])
def test_descriptors_do_not_run_out(count, held, tmp_path):
    """More containers than a process may hold open at the usual limits of 256 or 1024."""
    (tmp_path / "files").mkdir()
    for i in range(count):
        (tmp_path / "files" / str(i)).write_bytes(str(i).encode())
    build(tmp_path / "x", [Record(f"a/{i:05d}", f"files/{i}", 0, len(str(i)), 0) for i in range(count)])
    gc.collect()
    before = open_descriptors()
    for _ in range(3):
        index = Index(tmp_path / "x")
        assert [index.read(i) for i in range(count)] == [str(i).encode() for i in range(count)]
        assert open_descriptors() - before == held + 1  # that of the index
        assert [index.read(0) for _ in range(5)] == [b"0"] * 5
        assert open_descriptors() - before == held + 1
    del index
    assert open_descriptors() <= before + 1


def test_an_index_opened_before_a_fork_reads_in_both(tmp_path):
    files = pictures(2, 5)
    index = Index(write_index(tmp_path, files))
    expected = [index.read(i) for i in range(10)]
    children = []
    for _ in range(3):
        child = os.fork()
        if child == 0:
            whole = all([index.read(i) for i in range(10)] == expected for _ in range(50))
            os._exit(0 if whole else 1)
        children.append(child)
    for _ in range(50):
        assert [index.read(i) for i in range(10)] == expected
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]


def test_300_000_samples_open_at_once(tmp_path):
    """The columns are mapped, not read: a worker costs no copy of them."""
    count = 300_000
    builder = IndexBuilder()
    for i in range(count):
        builder.add(Record(f"a/n01440764_{i:08d}.JPEG", "t.tar", i << 10, 1000, 0, 375, 500))
    path = index_path(tmp_path, "train")
    builder.write(path, INFO)
    Index(path)
    began = time.perf_counter()
    index = Index(path)
    assert time.perf_counter() - began < 0.2
    assert index[123_456].name == "a/n01440764_00123456.JPEG"


# --- quarantine -------------------------------------------------------------------------------------------------


def quarantine(path: Path, numbers: list[int]) -> Index:
    whole = Index(path, include_quarantined=True)
    marked = np.zeros(len(whole), bool)
    marked[numbers] = True
    _, data = with_findings(whole, whole.crc32, marked)
    path.write_bytes(data)
    return Index(path)


def test_samples_in_quarantine_are_left_out_and_kept(tmp_path):
    everything = list(build(tmp_path / "x"))
    before = Index(tmp_path / "x").info.fingerprint
    index = quarantine(tmp_path / "x", [1, 3])
    assert list(index) == [everything[i] for i in (0, 2, 4)]
    assert index.quarantined == 2
    whole = Index(tmp_path / "x", include_quarantined=True)
    assert whole.include_quarantined
    assert list(whole) == [everything[i] for i in (0, 2, 4, 1, 3)]
    assert whole.file_order.tolist() == [0, 2, 4, 1, 3]
    assert index.info.whole_fingerprint == before
    # as if they had never been there
    builder = IndexBuilder()
    for i in (0, 2, 4):
        builder.add(everything[i])
    assert builder.encode(INFO)[0].fingerprint == index.info.fingerprint != before


@pytest.mark.parametrize("number", [0, 4])
def test_a_single_sample_can_be_in_quarantine(number, tmp_path):
    everything = list(build(tmp_path / "x"))
    assert list(quarantine(tmp_path / "x", [number])) == [r for i, r in enumerate(everything) if i != number]


def test_an_empty_quarantine_gives_the_same_bytes(tmp_path):
    build(tmp_path / "x")
    before = (tmp_path / "x").read_bytes()
    quarantine(tmp_path / "x", [0, 4])
    assert (tmp_path / "x").read_bytes() != before
    quarantine(tmp_path / "x", [])
    assert (tmp_path / "x").read_bytes() == before


def test_everything_in_quarantine_is_an_error_with_a_hint(tmp_path):
    build(tmp_path / "x")
    with pytest.raises(DataError, match="every image of the train split is in quarantine") as caught:
        quarantine(tmp_path / "x", [0, 1, 2, 3, 4])
    assert "verify" in caught.value.hint
    assert len(Index(tmp_path / "x", include_quarantined=True)) == 5


# --- damage -----------------------------------------------------------------------------------------------------


def test_no_index_says_what_to_do(tmp_path):
    with pytest.raises(DataError, match="no index at") as caught:
        Index(tmp_path / "gone")
    assert caught.value.hint == "run: resnetctl prepare"
    with pytest.raises(DataError, match="cannot read"):
        Index(tmp_path)


def test_a_cut_index_is_refused(tmp_path):
    build(tmp_path / "x")
    data = (tmp_path / "x").read_bytes()
    for length in range(0, len(data), 7):
        (tmp_path / "x").write_bytes(data[:length])
        with pytest.raises(DataError, match="not a readable index"):
            Index(tmp_path / "x")


def changed(path: Path, **values: object) -> Path:
    """The index at `path` with other values in its JSON head."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    head = json.loads(header["__metadata__"]["resnetctl"]) | values
    header["__metadata__"]["resnetctl"] = json.dumps({k: v for k, v in head.items() if v != "left out"})
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])
    return path


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"format": 1}, "another format version"),
        ({"format": "left out"}, "another format version"),
        ({"classes": ["a"]}, "label out of range"),
        ({"classes": "ab"}, "its metadata.classes: "),
        ({"classes": None}, "its metadata.classes: "),
        ({"class_names": ["a", "b", "c"]}, "class names do not match classes"),
        ({"split": "test"}, "class names do not match classes"),
        ({"split": ["train"]}, "its metadata.split: "),
        ({"root": None}, "its metadata.root: "),
        ({"root": 5}, "its metadata.root: "),
        ({"root": "left out"}, "its metadata"),
        ({"more": 1}, "its metadata"),
        ({"quarantined": [5]}, "quarantined out of range"),
        ({"quarantined": [-1]}, "quarantined out of range"),
        ({"quarantined": [1, 0]}, "quarantined out of range"),
        ({"quarantined": [1, 1]}, "quarantined out of range"),
        ({"quarantined": [float("inf")]}, "its metadata.quarantined"),
        ({"quarantined": 1}, "its metadata.quarantined"),
    ],
    ids=str,
)
def test_a_head_that_makes_no_sense_is_refused(values, why, tmp_path):
    path = tmp_path / "x"
    build(path)
    Index(changed(path))  # as it is it can be read
    with pytest.raises(DataError) as caught:
        Index(changed(path, **values))
    assert caught.value.message.startswith(f"{path} is not a readable index: {why}")


@pytest.mark.parametrize(
    ("head", "why"),
    [("{", "its metadata is not JSON: "), ("[1]", "another format version"), ("5", "another format version")],
)
def test_a_head_that_is_none_is_refused(head, why, tmp_path):
    build(tmp_path / "x")
    save_file(plain_load_file(tmp_path / "x"), tmp_path / "x", {"resnetctl": head})
    with pytest.raises(DataError, match=f"not a readable index: {why}"):
        Index(tmp_path / "x")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda c: c | {"size": c["size"].astype(np.int32)}, "size has the wrong type"),
        (lambda c: c | {"name_bytes": c["name_bytes"].astype(np.int32)}, "name_bytes has the wrong type"),
        (lambda c: c | {"name_ends": c["name_ends"].astype(np.int32)}, "name_ends has the wrong type"),
        (lambda c: c | {"width": c["width"][:-1]}, "columns of different lengths"),
        (lambda c: c | {"name_ends": c["name_ends"][:-1]}, "columns of different lengths"),
        (lambda c: {k: v[:0] for k, v in c.items()}, "columns of different lengths"),
        (lambda c: c | {"name_ends": c["name_ends"][::-1]}, "name out of range"),
        (lambda c: c | {"name_ends": c["name_ends"] - c["name_ends"][0] - 1}, "name out of range"),
        (lambda c: c | {"name_ends": c["name_ends"] + np.array([0, 0, 0, 0, 1])}, "name out of range"),
        (lambda c: c | {"container_name_bytes": c["container_name_bytes"][:-1]}, "container_name out of range"),
        (lambda c: c | {"container": c["container"] + 1}, "container out of range"),
        (lambda c: {k: v for k, v in c.items() if k != "crc32"}, "'crc32'"),
    ],
)
def test_columns_that_make_no_sense_are_refused(change, why, tmp_path):
    path = tmp_path / "x"
    build(path)
    with safe_open(path, "np") as file:
        head = file.metadata()
    columns = plain_load_file(path)
    save_file(columns, path, head)
    assert len(Index(path)) == 5
    save_file({k: np.ascontiguousarray(column) for k, column in change(columns).items()}, path, head)
    with pytest.raises(DataError) as caught:
        Index(path)
    assert caught.value.message == f"{path} is not a readable index: {why}"


@pytest.mark.parametrize(
    ("record", "column"),
    [
        (Record("a/1", "t", 0, 10, 2), "label"),
        (Record("a/1", "t", 0, 10, -1), "label"),
        (Record("a/1", "t", -1, 10, 0), "offset"),
        (Record("a/1", "t", 1 << 62, 10, 0), "offset"),
        (Record("a/1", "t", 0, MAX_SAMPLE_BYTES + 1, 0), "length"),
        (Record("a/1", "t", 0, -5, 0), "length"),
        (Record("a/1", "t", 0, 5, 0, size=MAX_SAMPLE_BYTES + 1), "size"),
    ],
)
def test_numbers_out_of_range_are_refused(record, column, tmp_path):
    with pytest.raises(DataError, match=f"not a readable index: {column} out of range"):
        build(tmp_path / "x", [record])


def test_numbers_at_the_ends_of_their_ranges_are_taken(tmp_path):
    records = [
        Record("a/1", "t", 0, 0, 0, size=0),
        Record("b/1", "u", (1 << 62) - 1, MAX_SAMPLE_BYTES, 1, size=MAX_SAMPLE_BYTES),
    ]
    assert list(build(tmp_path / "x", records)) == records


@pytest.fixture(scope="module")
def real(tmp_path_factory) -> tuple[Path, bytes]:
    path = write_index(tmp_path_factory.mktemp("damaged"), pictures(2, 2))
    return path, path.read_bytes()


@given(st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 255)), min_size=1, max_size=4), st.booleans())
@settings(deadline=None, max_examples=400)
def test_any_change_of_the_bytes_gives_an_index_or_a_data_error(real, changes, in_the_head):
    path, data = real
    damaged = bytearray(data)
    limit = 8 + int.from_bytes(data[:8], "little") if in_the_head else len(data)
    for at, value in changes:
        damaged[at % limit] = value
    path.write_bytes(damaged)
    try:
        index = Index(path)
        records = list(index)
    except DataError:
        return
    assert len(records) == len(index) <= 4
    for i in range(len(index)):
        with contextlib.suppress(DataError):
            index.read(i)


def test_names_of_any_bytes_come_back(tmp_path):
    names = sorted(bytes([b]) for b in range(1, 256) if b != ord("/"))
    index = build(tmp_path / "x", [Record("a/" + os.fsdecode(n), os.fsdecode(n), 0, 1, 0) for n in names])
    assert [os.fsencode(index.name(i))[2:] for i in range(len(names))] == names
    assert [os.fsencode(index.container_name(int(index.container[i]))) for i in range(len(names))] == names


def test_opening_an_index_needs_no_torch(tmp_path):
    path = write_index(tmp_path, pictures(1, 1))
    program = f"""
import sys
from pathlib import Path
from resnetctl.data.index import Index
assert len(Index(Path({str(path)!r})).read(0)) > 100
sys.exit("torch" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
