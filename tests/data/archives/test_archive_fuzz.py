"""Archives with changed bytes give records inside the file, or one clean DataError; nothing else, and quickly."""

import contextlib
import io
import resource
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from resnetctl.data import imagenet
from resnetctl.data.archives import MAX_SAMPLE_BYTES
from resnetctl.data.archives.zip import zip_members
from resnetctl.data.copies.from_source import Copying
from resnetctl.data.copies.pack import Packing
from resnetctl.data.dataset import load_dataset
from resnetctl.data.imagenet import ground_truth
from resnetctl.data.imagenet.devkit import read_devkit
from resnetctl.data.index import Index
from resnetctl.data.prepare import prepare
from resnetctl.data.quarantine import BadImage, encode_quarantine, read_quarantine
from resnetctl.data.sources import official, source_module
from resnetctl.errors import DataError
from resnetctl.progress import silent
from tests.fixtures.holdings import Holding
from tests.fixtures.imagenet_archives import DEVKIT, TRAIN, VAL, jpeg, tar_of
from tests.fixtures.imagenet_archives import official as made_official

WNIDS = imagenet.wnids()[::400]
BLOCK = 512
MEMORY_KIB = 300 << 10  # by which the process may grow, whatever an archive claims


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_official(WNIDS, 2, 1, ancestors=2).write(tmp_path_factory.mktemp("whole"))


def mutations() -> st.SearchStrategy[list[tuple[str, int, bytes]]]:
    """Changes to make in turn: what to do, where (a fraction of the file in 2^20), and with which bytes."""
    interesting = st.sampled_from(
        [b"\0", b"\xff", b"\x80", b"5", b"x", b"L", b"S", b"\0" * BLOCK, b"../", b"77777777777"]
    )
    content = st.one_of(interesting, st.binary(min_size=1, max_size=20))
    kind = st.sampled_from(["write", "write", "write header", "insert", "delete", "cut", "wipe"])
    return st.lists(st.tuples(kind, st.integers(0, (1 << 20) - 1), content), min_size=1, max_size=4)


def mutated(data: bytes, changes: list[tuple[str, int, bytes]]) -> bytes:
    for kind, fraction, content in changes:
        at = fraction * len(data) >> 20
        block = at // BLOCK * BLOCK
        if kind == "write":
            data = data[:at] + content + data[at + len(content) :]
        elif kind == "write header":  # with a checksum that is right again, or nothing behind it would be reached
            header = bytearray(data[block : block + BLOCK].ljust(BLOCK, b"\0"))
            field = (0, 100, 124, 156, 257, 345)[at % 6]
            header[field : field + len(content)] = content
            del header[BLOCK:]
            header[148:156] = b" " * 8
            header[148:156] = b"%06o\0 " % sum(header)
            data = data[:block] + bytes(header) + data[block + BLOCK :]
        elif kind == "insert":
            data = data[:at] + content + data[at:]
        elif kind == "delete":
            data = data[:at] + data[at + len(content) * 7 :]
        elif kind == "cut":
            data = data[:at]
        else:
            data = data[:block] + bytes(BLOCK) + data[block + BLOCK :]
    return data


def check_official(archives: Path, folder: Path, name: str, changes: list[tuple[str, int, bytes]]) -> None:
    for archive in (TRAIN, VAL, DEVKIT):
        data = (archives / archive).read_bytes()
        (folder / archive).write_bytes(mutated(data, changes) if archive == name else data)
    try:
        source = source_module("official").open_source(folder, folder, "official", silent)
        for split, records in source.splits.items():
            size = (folder / (TRAIN if split == "train" else VAL)).stat().st_size
            for record in records(silent):
                assert 0 <= record.offset <= record.offset + record.length <= size
                assert 0 <= record.label < len(source.classes)
                wnid, file = record.name.split("/")
                assert wnid == source.classes[record.label]
                assert (imagenet.TRAIN_FILE if split == "train" else imagenet.VAL_FILE).fullmatch(file)
                assert record.height >= 0
                assert record.width >= 0
    except DataError:
        pass
    assert sorted(p.name for p in folder.iterdir()) == sorted((TRAIN, VAL, DEVKIT))


def check_zip(folder: Path, changes: list[tuple[str, int, bytes]]) -> None:
    bundled = Path(official.__file__).parents[1] / "sample" / "val.zip"
    path = folder / "a.zip"
    data = bundled.read_bytes()
    path.write_bytes(mutated(data[:2000], changes) + data[2000:-2000] + mutated(data[-2000:], changes))
    try:
        for member in zip_members(path):
            assert member.offset >= 0
            assert member.length >= 0
    except DataError:
        pass
    path.unlink()


def fuzz(examples: int) -> settings:
    return settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize("name", [TRAIN, VAL, DEVKIT])
def test_official_archives(archives: Path, tmp_path: Path, name: str) -> None:
    @fuzz(300)
    @given(mutations())
    def check(changes: list[tuple[str, int, bytes]]) -> None:
        check_official(archives, tmp_path, name, changes)

    check()


def test_zip(tmp_path: Path) -> None:
    @fuzz(300)
    @given(mutations())
    def check(changes: list[tuple[str, int, bytes]]) -> None:
        check_zip(tmp_path, changes)

    check()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What is changed below, whole: Kaggle's zip and lists, a parquet file, an index, the files of packed shards."""
    folder = tmp_path_factory.mktemp("whole")
    held = Holding()
    held.train = {wnid: files[:2] for wnid, files in list(held.train.items())[:4]}
    held.val = [v for v in held.val if v[1] in held.train][:8]
    data = folder / "data"
    packing = Copying(packing=Packing(shard_size=10))
    prepare(data, held.flat(folder / "flat"), allow_incomplete=True, copying=packing)
    held.parquet(folder / "hf", 1)
    pictures = [(f"pets/{split}/{name}/1.jpg", jpeg(1)) for split in ("train", "val") for name in ("cat", "dog")]
    return {
        "kaggle": held.kaggle_zip(folder / "a.zip").read_bytes(),
        "zip of folders": zip_of(pictures),
        "tar of folders": tar_of(pictures),
        "solution": held.solution().encode(),
        "parquet": (folder / "hf/data/train-00000-of-00001.parquet").read_bytes(),
        "index": (data / "train.index.safetensors").read_bytes(),
        "pack": (data / "shards/pack.json").read_bytes(),
        "dataset": (data / "dataset.json").read_bytes(),
        "quarantine": encode_quarantine([BadImage("train", "a/b", "c", "d")] * 9),
    }


def zip_of(members: list[tuple[str, bytes]]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return file.getvalue()


def check_kaggle(data: bytes, folder: Path) -> None:
    (folder / "a.zip").write_bytes(data)
    source = source_module("kaggle").open_source(folder / "a.zip", folder, "kaggle", silent)
    for records in source.splits.values():
        for record in records(silent):
            assert 0 <= record.offset <= record.offset + record.length <= len(data)
            assert 0 <= record.label < len(source.classes)
            assert record.name.split("/")[0] == source.classes[record.label]
            assert record.container == "a.zip"
            assert record.size <= MAX_SAMPLE_BYTES


def check_class_folders(data: bytes, folder: Path) -> None:
    """The bytes as a .zip and as a .tar of class folders, whichever they are."""
    for name in ("a.zip", "a.tar"):
        (folder / name).write_bytes(data)
        with contextlib.suppress(DataError):
            source = source_module("archive").open_source(folder / name, folder, "archive", silent)
            for records in source.splits.values():
                for record in records(silent):
                    assert 0 <= record.offset <= record.offset + record.length <= len(data)
                    assert record.name.split("/")[0] == source.classes[record.label]
                    assert record.container == name
                    assert record.size <= MAX_SAMPLE_BYTES
        (folder / name).unlink()


def check_solution(data: bytes, folder: Path) -> None:
    labels = ground_truth.from_solution(data, "x")
    assert all(map(imagenet.WNID.fullmatch, labels.wnids.values()))


def check_parquet(data: bytes, folder: Path) -> None:
    path = folder / "train-00000-of-00001.parquet"
    path.write_bytes(data)
    piece = source_module("parquet").open_source(folder, folder, "parquet", silent).pieces["train"][0]
    for sample in piece.samples():
        assert imagenet.wnids()[sample.label] == sample.name.split("/")[0]


def check_index(data: bytes, folder: Path) -> None:
    path = folder / "train.index.safetensors"
    path.write_bytes(data)
    index = Index(path, include_quarantined=True)
    for i in range(len(index)):
        assert index[i].label < len(index.info.classes)
        with contextlib.suppress(DataError):
            index.read(i)
    with contextlib.suppress(DataError):
        assert len(Index(path)) + index.quarantined == len(index)


def check_pack(data: bytes, folder: Path) -> None:
    (folder / "shards").mkdir(exist_ok=True)
    (folder / "shards" / "pack.json").write_bytes(data)
    source = source_module("shards").open_source(folder, folder, "shards", silent)
    for records in source.splits.values():
        assert list(records(silent)) == []


def check_dataset(data: bytes, folder: Path) -> None:
    (folder / "dataset.json").write_bytes(data)
    dataset = load_dataset(folder)
    for split in dataset.fingerprints:
        with contextlib.suppress(DataError):
            dataset.open(split)


def check_quarantine(data: bytes, folder: Path) -> None:
    (folder / "quarantine.jsonl").write_bytes(data)
    assert all(isinstance(text, str) for bad in read_quarantine(folder) for text in vars(bad).values())


CHECKS = {
    "kaggle": check_kaggle,
    "zip of folders": check_class_folders,
    "tar of folders": check_class_folders,
    "solution": check_solution,
    "parquet": check_parquet,
    "index": check_index,
    "pack": check_pack,
    "dataset": check_dataset,
    "quarantine": check_quarantine,
}


def check_changed(whole: dict[str, bytes], name: str, folder: Path, examples: int) -> None:
    """Changed bytes give what is sound or a DataError, write nothing but what was put there, and need little memory."""
    inside = folder / "inside"
    inside.mkdir()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    @fuzz(examples)
    @given(mutations())
    def check(changes: list[tuple[str, int, bytes]]) -> None:
        with contextlib.suppress(DataError):
            CHECKS[name](mutated(whole[name], changes), inside)

    check()
    assert [p.name for p in folder.iterdir()] == ["inside"]
    assert sum(1 for p in inside.rglob("*") if p.is_file()) <= 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MEMORY_KIB


@pytest.mark.parametrize("name", CHECKS)
def test_300_changes_of_each(whole: dict[str, bytes], tmp_path: Path, name: str) -> None:
    check_changed(whole, name, tmp_path, 300)


@pytest.mark.slow
@pytest.mark.parametrize("name", CHECKS)
def test_20_000_changes_of_each(whole: dict[str, bytes], tmp_path: Path, name: str) -> None:
    check_changed(whole, name, tmp_path, 20_000)


@pytest.mark.slow
@pytest.mark.parametrize("name", [TRAIN, VAL, DEVKIT, "zip"])
def test_20_000_changes_of_each_archive(archives: Path, tmp_path: Path, name: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    @fuzz(20_000)
    @given(mutations())
    def check(changes: list[tuple[str, int, bytes]]) -> None:
        if name == "zip":
            check_zip(tmp_path, changes)
        else:
            check_official(archives, tmp_path, name, changes)

    check()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MEMORY_KIB


def test_the_devkits_struct_inside_a_sound_tar(tmp_path: Path, archives: Path) -> None:
    """Most changes of the gzip end at its checksum; here the MATLAB file itself is changed, and packed again."""
    from tests.fixtures.imagenet_archives import meta_mat, write_devkit

    whole = meta_mat([(1, WNIDS[0], "a, b", 2), (2, WNIDS[1], "c", 2)], 2, compressed=False)

    @fuzz(300)
    @given(mutations())
    def check(changes: list[tuple[str, int, bytes]]) -> None:
        write_devkit(tmp_path / DEVKIT, mutated(whole, changes), [1, 2])
        with contextlib.suppress(DataError):
            assert len(read_devkit(tmp_path / DEVKIT).wnids) >= 1

    check()
