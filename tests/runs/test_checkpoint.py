"""Checkpoints: the same bytes for the same state, found only when committed, and never believed when damaged."""

import json
import os
import resource
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file as plain_load_file
from safetensors.torch import save as plain_save

from resnetctl.errors import CheckpointError, ResnetctlError
from resnetctl.files import sweep_temporary_files
from resnetctl.runs import checkpoint as checkpoint_module
from resnetctl.runs.checkpoint import Checkpoint, find_checkpoint, load_commit, load_file, load_newest, save_checkpoint
from resnetctl.runs.commits import (
    FORMAT,
    Commit,
    checkpoint_name,
    commits,
    load_metadata,
    remove,
    set_aside,
    uncommitted,
    verify_commit,
)
from tests.fixtures.checkpoints import checkpoint, metadata
from tests.moments import kill_before

DTYPES = sorted(checkpoint_module._DTYPES.values(), key=str)


def tensors() -> dict[str, torch.Tensor]:
    """Every type and every kind of shape that a training state could have."""
    torch.manual_seed(0)
    found = {f"model.{str(d)[6:]}": (torch.randn(3, 5) * 50).to(d) for d in DTYPES}
    return found | {
        "model.scalar": torch.tensor(7),
        "model.empty": torch.empty(0),
        "model.flat": torch.empty(3, 0, 2, dtype=torch.int8),
        "model.one": torch.ones(1, 1, 1, 1, dtype=torch.bool),
        "model.conv.weight": torch.randn(4, 3, 3, 3).to(memory_format=torch.channels_last),
        "optimizer.transposed": torch.randn(6, 2).T,
        "optimizer.slice": torch.randn(8, 8)[1::2, ::3],
        "progress.odd": torch.tensor([float("nan"), float("inf"), -0.0]),
        "model.name with [bold] and ü": torch.arange(5),
    }


METADATA = metadata(12)


def state(step: int = 12) -> Checkpoint:
    return Checkpoint(tensors(), metadata(step))


def equal(a: Checkpoint, b: Checkpoint) -> bool:
    return (
        a.metadata == b.metadata
        and {k: t.shape for k, t in a.tensors.items()} == {k: t.shape for k, t in b.tensors.items()}
        and all(
            t.dtype == b.tensors[k].dtype
            and t.contiguous().reshape(-1).view(torch.uint8).tolist()
            == b.tensors[k].contiguous().reshape(-1).view(torch.uint8).tolist()
            for k, t in a.tensors.items()
        )
    )


small = checkpoint


def no_damage(commit: Commit, error: CheckpointError) -> None:
    raise AssertionError(error)


# --- what is written --------------------------------------------------------------------------------------------


def test_every_type_and_shape_comes_back(tmp_path):
    commit = save_checkpoint(tmp_path, state())
    for loaded in (load_commit(commit), load_file(commit.path), load_newest(tmp_path, no_damage)[1]):
        assert equal(loaded, state())
    assert load_metadata(commit.path) == METADATA
    assert load_commit(commit).part("optimizer").keys() == {"transposed", "slice"}
    load_commit(commit).tensors["model.scalar"].add_(1)  # memory of their own, which can be written to


def test_the_file_is_plain_safetensors(tmp_path):
    path = save_checkpoint(tmp_path, state()).path
    assert equal(Checkpoint(plain_load_file(path), METADATA), state())
    with safe_open(path, "pt") as file:
        assert json.loads(file.metadata()["resnetctl"])["step"] == 12
        assert list(file.metadata()) == ["resnetctl"]


def test_the_same_state_gives_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    environment = dict(reversed(METADATA.environment.items()))
    backwards = Checkpoint(dict(reversed(tensors().items())), metadata(12, environment=environment))
    a, b = save_checkpoint(tmp_path / "a", state()), save_checkpoint(tmp_path / "b", backwards)
    assert a.path.read_bytes() == b.path.read_bytes()
    assert a.sha256 == b.sha256


@pytest.mark.parametrize("length", range(1, 10))
def test_the_bytes_are_those_of_the_library(length, tmp_path):
    """Largest types first, a header without blanks but for those that align what follows, whatever its length."""
    found = {
        "a" * length: torch.arange(3, dtype=torch.uint8),
        "b": torch.randn(2, 3),
        "c": torch.arange(4),
        "d": torch.zeros(1, dtype=torch.bfloat16),
    }
    path = save_checkpoint(tmp_path, Checkpoint(found, METADATA)).path
    with safe_open(path, "pt") as file:
        said = file.metadata()
    assert path.read_bytes() == plain_save(found, said)


def test_no_tensors_and_eight_dimensions_are_no_damage(tmp_path):
    found = {"model.w": torch.arange(6.0).reshape(1, 2, 1, 1, 3, 1, 1, 1)}
    for step, content in ((1, found), (2, {})):
        commit = save_checkpoint(tmp_path, Checkpoint(content, metadata(step)))
        assert equal(load_commit(commit), Checkpoint(content, metadata(step)))


def test_a_tensor_larger_than_one_read_comes_back(tmp_path):
    """The file is read in pieces of 16 MiB."""
    found = {"model.w": torch.arange((20 << 20) // 4, dtype=torch.int32)}
    commit = save_checkpoint(tmp_path, Checkpoint(found, METADATA))
    assert torch.equal(load_commit(commit).tensors["model.w"], found["model.w"])


def test_a_disk_that_gives_back_other_bytes_is_noticed_and_the_earlier_one_stays(tmp_path, monkeypatch):
    before = save_checkpoint(tmp_path, small(10))
    real = os.fsync

    def failing(fd: int) -> None:
        real(fd)
        if os.fstat(fd).st_size > 9:
            os.pwrite(fd, b"?", 9)

    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(CheckpointError, match="reads back differently from what was written") as caught:
        save_checkpoint(tmp_path, small(20))
    monkeypatch.undo()
    assert str(tmp_path / "step-00000020.safetensors") in caught.value.message
    assert "earlier checkpoints are untouched" in caught.value.hint
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000010.json", "step-00000010.safetensors"]
    assert equal(load_commit(before), small(10))


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0, 0o644)])
def test_the_files_can_be_read_by_whom_the_umask_allows(umask, mode, tmp_path):
    before = os.umask(umask)
    try:
        path = save_checkpoint(tmp_path, small(1)).path
    finally:
        os.umask(before)
    assert {p.name: p.stat().st_mode & 0o777 for p in tmp_path.iterdir()} == {
        path.name: mode,
        path.with_suffix(".json").name: mode,
    }


def test_the_record_says_what_was_written(tmp_path):
    commit = save_checkpoint(tmp_path, small(1200))
    assert commit.path.name == checkpoint_name(1200) == "step-00001200.safetensors"
    size = commit.path.stat().st_size
    record = commit.path.with_suffix(".json").read_text()
    assert record == f'{{"sha256": "{commit.sha256}", "size": {size}, "step": 1200}}\n'
    assert commit == Commit(commit.path, 1200, size, commit.sha256) == commits(tmp_path)[0]
    digest = subprocess.run(["sha256sum", commit.path], capture_output=True, text=True, check=True).stdout
    assert digest.split()[0] == commit.sha256


def test_a_type_that_could_not_be_loaded_is_not_saved(tmp_path):
    with pytest.raises(AssertionError):
        save_checkpoint(tmp_path, checkpoint(1, {"a": torch.zeros(2, dtype=torch.complex64)}))
    assert list(tmp_path.iterdir()) == []


# --- what is found ----------------------------------------------------------------------------------------------


def test_checkpoints_are_found_by_their_records(tmp_path):
    for step in (1, 30, 200, 123_456_789):
        save_checkpoint(tmp_path, small(step))
    remove(commits(tmp_path)[-1])
    assert [c.step for c in commits(tmp_path)] == [123_456_789, 200, 30]
    record = tmp_path / "step-00000200.json"
    content = record.read_bytes()
    for damaged in (b"", content[:30], b"[]", b'"step"', b"null", b"\xff", b'{"step": 200}', b"[" * 4000, b"nan"):
        record.write_bytes(damaged)
        assert [c.step for c in commits(tmp_path)] == [123_456_789, 30]
    record.write_bytes(content.replace(b"200", b"201"))
    assert [c.step for c in commits(tmp_path)] == [123_456_789, 30]
    record.write_bytes(b" " * 5000 + content)  # so long is none
    assert [c.step for c in commits(tmp_path)] == [123_456_789, 30]
    record.write_text('{"sha256": "0", "size": Infinity, "step": 200}')
    assert [c.step for c in commits(tmp_path)] == [123_456_789, 30]
    record.unlink()
    assert [c.step for c in commits(tmp_path)] == [123_456_789, 30]
    assert commits(tmp_path / "no such folder") == []


def test_other_files_are_no_checkpoints(tmp_path):
    own = [save_checkpoint(tmp_path, small(step)) for step in (7, 6, 5, 4)]
    data, record = own[0].path.read_bytes(), own[0].path.with_suffix(".json").read_text()
    copies = [f"step-0000000{n}-copy" for n in range(8)]
    for stem in (*copies, "step-7", "step-0000007x", "last", ".step-00000008.safetensors.abcdefgh"):
        (tmp_path / f"{stem}.safetensors").write_bytes(data)
        (tmp_path / f"{stem}.json").write_text(record)
    (tmp_path / "step-00000009.safetensors").symlink_to(own[0].path)
    (tmp_path / "step-00000009.json").write_text(record.replace('"step": 7', '"step": 9'))
    (tmp_path / "step-00000010.safetensors").symlink_to(own[0].path)
    assert commits(tmp_path) == own
    assert uncommitted(tmp_path) == []


def test_files_without_a_readable_record_are_listed_newest_first(tmp_path):
    for step in (1, 2, 3, 4):
        save_checkpoint(tmp_path, small(step))
    (tmp_path / "step-00000004.json").write_text("half of")
    (tmp_path / "step-00000002.json").unlink()
    assert [p.name for p in uncommitted(tmp_path)] == ["step-00000004.safetensors", "step-00000002.safetensors"]
    assert [c.step for c in commits(tmp_path)] == [3, 1]
    assert uncommitted(tmp_path / "no such folder") == []


def test_the_newest_whole_one_is_taken_and_the_damaged_named(tmp_path):
    for step in (10, 20, 30):
        save_checkpoint(tmp_path, small(step))
    newest, middle, _ = commits(tmp_path)
    cut(newest.path)
    flip(middle.path, -3)
    size = f"{newest.size - 1:,} bytes, but {newest.size:,} were committed"
    told = []
    commit, loaded = load_newest(tmp_path, lambda c, error: told.append((c.step, error.message)))
    assert commit.step == loaded.metadata.step == 10
    assert [step for step, _ in told] == [30, 20]
    assert told[0][1] == f"checkpoint {newest.path} is damaged: it has {size}"
    assert told[1][1] == f"checkpoint {middle.path} is damaged: its sha256 is not the committed one"


def test_none_whole_is_an_error_and_never_a_new_start(tmp_path):
    with pytest.raises(CheckpointError, match="no finished checkpoint") as nothing:
        load_newest(tmp_path, no_damage)
    assert nothing.value.hint
    flip(save_checkpoint(tmp_path, small(10)).path, -1)
    with pytest.raises(CheckpointError) as the_only:
        load_newest(tmp_path, lambda c, error: None)
    assert the_only.value.message == f"the only checkpoint in {tmp_path} is damaged"
    flip(save_checkpoint(tmp_path, small(20)).path, -1)
    told = []
    with pytest.raises(CheckpointError) as all_damaged:
        load_newest(tmp_path, lambda c, error: told.append(c.step))
    assert told == [20, 10]
    assert all_damaged.value.message == f"all 2 checkpoints in {tmp_path} are damaged"
    assert all_damaged.value.hint
    assert issubclass(CheckpointError, ResnetctlError)


def test_files_without_a_record_are_told_where_nothing_else_is(tmp_path):
    for step in (10, 20):
        save_checkpoint(tmp_path, small(step)).path.with_suffix(".json").unlink()
    with pytest.raises(CheckpointError, match=r"2 checkpoint files in .* but no commit record") as caught:
        load_newest(tmp_path, no_damage)
    assert f"--resume {tmp_path / 'step-00000020.safetensors'}," in caught.value.hint


def test_a_checkpoint_is_named_by_its_file_or_its_run(tmp_path):
    for run, step in (("first", 10), ("first", 20), ("second", 30)):
        (tmp_path / run / "checkpoints").mkdir(parents=True, exist_ok=True)
        save_checkpoint(tmp_path / run / "checkpoints", small(step))
    (tmp_path / "latest").symlink_to("second")
    old, new = (commit.path for commit in reversed(commits(tmp_path / "first" / "checkpoints")))
    told = []
    for which, step in ((None, 30), ("second", 30), (str(tmp_path / "first"), 20), ("first", 20), (str(old), 10)):
        path, found = find_checkpoint(tmp_path, which, told.append)
        assert (path.name, found.metadata.step) == (f"step-{step:08d}.safetensors", step)
    assert told == []
    flip(new, -1)
    assert find_checkpoint(tmp_path, "first", told.append)[0] == old
    assert told[0].startswith(f"checkpoint {new} is damaged")
    assert told[0].endswith("taking the one before it")
    with pytest.raises(CheckpointError, match="no run"):
        find_checkpoint(tmp_path, "third", told.append)


def test_half_a_deletion_is_a_file_that_was_never_committed(tmp_path, monkeypatch):
    commit = save_checkpoint(tmp_path, small(5))
    unlinked = []
    real = Path.unlink
    monkeypatch.setattr(Path, "unlink", lambda self, **o: (unlinked.append(self.suffix), real(self, **o)))
    remove(commit)
    assert unlinked == [".json", ".safetensors"]
    assert list(tmp_path.iterdir()) == []
    remove(commit)  # again: nothing to do


def test_a_damaged_one_is_set_aside_and_its_step_written_anew(tmp_path):
    commit = save_checkpoint(tmp_path, small(5))
    flip(commit.path, -1)
    bytes_before = commit.path.read_bytes()
    set_aside(commit)
    set_aside(commit)  # again: nothing to do
    assert commits(tmp_path) == []
    assert commit.path.with_suffix(".damaged").read_bytes() == bytes_before
    assert load_commit(save_checkpoint(tmp_path, small(5))).metadata == metadata(5)


# --- damage -----------------------------------------------------------------------------------------------------


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def test_a_flipped_bit_anywhere_is_noticed(tmp_path):
    commit = save_checkpoint(tmp_path, state(3))
    data = commit.path.read_bytes()
    for at in [*range(0, 40), *range(40, len(data), 61), len(data) - 1]:
        damaged = bytearray(data)
        damaged[at] ^= 1 << at % 8
        commit.path.write_bytes(damaged)
        for load in (lambda: load_commit(commit), lambda: load_file(commit.path)):
            with pytest.raises(CheckpointError, match="damaged: its sha256 is not the committed one"):
                load()
        with pytest.raises(CheckpointError):
            verify_commit(commit)
    commit.path.write_bytes(data)
    verify_commit(commit)


@pytest.mark.parametrize("record", [True, False], ids=["with its record", "alone"])
def test_a_file_of_another_length_is_noticed(record, tmp_path):
    commit = save_checkpoint(tmp_path, state(3))
    data = commit.path.read_bytes()
    if not record:
        commit.path.with_suffix(".json").unlink()
    for length in [*range(0, len(data), 97), len(data) - 1]:
        commit.path.write_bytes(data[:length])
        with pytest.raises(CheckpointError):
            load_file(commit.path)
    for more in (b"\0", bytes(4096)):
        commit.path.write_bytes(data + more)
        with pytest.raises(CheckpointError):
            load_file(commit.path)


def write_raw(path: Path, header: bytes, data: bytes = b"", length: int | None = None) -> Path:
    path.write_bytes((len(header) if length is None else length).to_bytes(8, "little") + header + data)
    return path


GOOD = {"__metadata__": {"resnetctl": json.dumps({"format": FORMAT, **metadata(1).to_json()})}}


def entry(dtype: Any = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


HOSTILE: dict[str, Any] = {
    "overlapping": GOOD | {"a": entry(), "b": entry(offsets=(4, 12))},
    "the same twice": GOOD | {"a": entry(), "b": entry()},
    "a hole": GOOD | {"a": entry(), "b": entry(offsets=(16, 24))},
    "beyond the end": GOOD | {"a": entry(shape=(1000,), offsets=(0, 4000))},
    "backwards": GOOD | {"a": entry(offsets=(8, 0))},
    "negative offset": GOOD | {"a": entry(offsets=(-8, 0))},
    "shape too large": GOOD | {"a": entry(shape=(1 << 62, 1 << 62))},
    "shape that wraps around": GOOD | {"a": entry(shape=(1 << 32, 1 << 32), offsets=(0, 0))},
    "shape without end": GOOD | {"a": entry(shape=[1] * 500_000 + [2])},
    "nothing of much": GOOD | {"a": entry(shape=(0, 8, 8, 8, 8, 8, 8, 8), offsets=(0, 0))},
    "negative shape": GOOD | {"a": entry(shape=(-2, -1))},
    "shape of true": GOOD | {"a": entry(shape=(True, 2))},
    "shape of floats": GOOD | {"a": entry(shape=(2.0,))},
    "no shape": GOOD | {"a": entry(shape=None)},
    "shape is text": GOOD | {"a": entry(shape="2")},
    "unknown type": GOOD | {"a": entry("F8_E4M3", offsets=(0, 2))},
    "type is a list": GOOD | {"a": entry(["F32"])},
    "wrong type": GOOD | {"a": entry("F64")},
    "three offsets": GOOD | {"a": entry(offsets=(0, 8, 8))},
    "offsets of text": GOOD | {"a": entry(offsets="08")},
    "float offsets": GOOD | {"a": entry(offsets=(0.0, 8.0))},
    "offsets not a number": GOOD | {"a": entry(offsets=(float("nan"), 8))},
    "entry is a list": GOOD | {"a": [1]},
    "entry is none": GOOD | {"a": None},
    "metadata is a list": {"__metadata__": ["resnetctl"], "a": entry()},
    "metadata is text": {"__metadata__": "resnetctl", "a": entry()},
    "our metadata is a number": {"__metadata__": {"resnetctl": 5}, "a": entry()},
    "our metadata is no JSON": {"__metadata__": {"resnetctl": "{"}, "a": entry()},
    "our metadata is a list": {"__metadata__": {"resnetctl": "[1]"}, "a": entry()},
    "our metadata is empty": {"__metadata__": {"resnetctl": "{}"}, "a": entry()},
    "our metadata is deep": {"__metadata__": {"resnetctl": "[" * 200_000}, "a": entry()},
    "format is a list": {"__metadata__": {"resnetctl": '{"format": [1]}'}, "a": entry()},
    "a later format": {"__metadata__": {"resnetctl": '{"format": 2}'}, "a": entry()},
    "no metadata": {"a": entry()},
    "a list": [1, 2],
    "text": "resnetctl",
    "null": None,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_header_is_refused(name, tmp_path):
    header = HOSTILE[name]
    data = bytes(24) if name == "a hole" else bytes(12) if name == "overlapping" else bytes(8)
    with pytest.raises(CheckpointError):
        load_file(write_raw(tmp_path / "x.safetensors", json.dumps(header).encode(), data))


@pytest.mark.parametrize(
    ("header", "data", "why"),
    [
        (GOOD | {"a": entry(shape=(-2, -1))}, 8, "shape of a"),
        (GOOD | {"a": entry(shape=(True, 2))}, 8, "shape of a"),
        (GOOD | {"a": entry(shape=(0, 8, 8, 8, 8, 8, 8, 8, 8), offsets=(0, 0))}, 0, "shape of a"),
        (GOOD | {"a": entry(), "b": entry(offsets=(0, 8))}, 16, "offset of b"),
        (GOOD | {"a": entry(), "b": entry(offsets=(4, 12))}, 12, "offset of b"),
        (GOOD | {"a": entry("F64")}, 8, "offset of a"),
        (GOOD | {"a": entry(shape=(1000,), offsets=(0, 4000))}, 8, "offset of a"),
        (GOOD | {"a": entry(shape=(4,), offsets=(0, 16))}, 15, "offset of a"),
        (GOOD | {"a": entry()}, 9, "bytes after the last tensor"),
        (GOOD, 1, "bytes after the last tensor"),
        (GOOD | {"a": entry("F8_E4M3", offsets=(0, 2))}, 8, "'F8_E4M3'"),
        ("resnetctl", 8, "'str' object"),
        ({"__metadata__": {"resnetctl": "{"}}, 0, "Expecting property name"),
        ({"__metadata__": {"resnetctl": "{}"}}, 0, "'format'"),
    ],
)
def test_a_header_that_makes_no_sense_is_refused_with_the_reason(header, data, why, tmp_path):
    path = write_raw(tmp_path / "x.safetensors", json.dumps(header).encode(), bytes(data))
    with pytest.raises(CheckpointError) as caught:
        load_file(path)
    assert caught.value.message.startswith(f"checkpoint {path} is damaged: its header makes no sense ({why}")


@pytest.mark.parametrize("beyond", [1, 8, 9, 100])
def test_a_header_longer_than_the_file_is_refused(beyond, tmp_path):
    header = json.dumps(GOOD).encode()
    assert load_file(write_raw(tmp_path / "x.safetensors", header)).metadata == metadata(1)
    path = write_raw(tmp_path / "x.safetensors", header, length=len(header) + beyond)
    with pytest.raises(CheckpointError) as caught:
        load_file(path)
    assert caught.value.message == f"checkpoint {path} is damaged: its header does not fit into it"


def test_a_header_that_no_checkpoint_would_need_is_not_read(tmp_path):
    header = json.dumps(GOOD).encode()
    assert load_file(write_raw(tmp_path / "x.safetensors", header.ljust(16 << 20))).metadata == metadata(1)
    with pytest.raises(CheckpointError, match="its header does not fit into it"):
        load_file(write_raw(tmp_path / "x.safetensors", header.ljust((16 << 20) + 1)))


def test_a_file_that_shrinks_while_it_is_read_ends_early(tmp_path, monkeypatch):
    path = save_checkpoint(tmp_path, small(3)).path
    path.with_suffix(".json").unlink()
    real = os.preadv

    def after_a_cut(*args: Any) -> int:
        os.truncate(path, path.stat().st_size - 1)
        return real(*args)

    monkeypatch.setattr(os, "preadv", after_a_cut)
    with pytest.raises(CheckpointError) as caught:
        load_file(path)
    assert caught.value.message == f"checkpoint {path} is damaged: it ends early"


def test_the_good_neighbour_of_the_hostile_headers_is_read(tmp_path):
    path = write_raw(tmp_path / "x.safetensors", json.dumps(GOOD | {"a": entry()}).encode(), bytes(8))
    assert load_file(path).tensors["a"].tolist() == [0, 0]


@pytest.mark.parametrize(
    ("header", "length"),
    [
        (b"", 0),
        (b"{}", 1 << 63),
        (b"{}", (1 << 64) - 1),
        (b"{}", 3),
        (b"{" * 300_000, None),
        (b"[" * 300_000, None),
        (b'{"a":' * 100_000, None),
        (b"\xff\xfe{}", None),
        (b"9" * 5000, None),
        (b'{"__metadata__": {"resnetctl": "{}"}, "a": ' + b"9" * 5000 + b"}", None),
        (bytes(100), None),
    ],
)
def test_a_header_that_is_none_is_refused(header, length, tmp_path):
    with pytest.raises(CheckpointError):
        load_file(write_raw(tmp_path / "x.safetensors", header, b"", length))


def test_a_huge_shape_in_a_large_file_is_refused(tmp_path):
    """Each dimension is smaller than the file, and none of them is there: the strides would overflow."""
    path = write_raw(
        tmp_path / "x.safetensors",
        json.dumps(GOOD | {"a": entry(shape=(0, 10**8, 10**8, 10**8), offsets=(0, 0))}).encode(),
    )
    with path.open("r+b") as file:
        file.truncate(1 << 30)  # a hole: takes no space
    with pytest.raises(CheckpointError):
        load_file(path)


@pytest.mark.parametrize(
    "make",
    [
        lambda path: None,
        lambda path: path.mkdir(),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"PK\x03\x04 a pickle of torch.save" * 50),
        lambda path: path.write_bytes(plain_save({"fc.weight": torch.zeros(3)})),
        lambda path: path.symlink_to(path.with_name("gone")),
    ],
    ids=["missing", "folder", "empty", "pickle", "plain weights", "dangling link"],
)
def test_what_is_no_checkpoint_is_named(make: Callable[[Path], Any], tmp_path):
    path = tmp_path / "[bold]\x1b[31m.safetensors"
    make(path)
    for read in (load_file, load_metadata):
        with pytest.raises(CheckpointError) as caught:
            read(path)
        assert "[bold]\\x1b[31m.safetensors" in caught.value.message


@pytest.mark.parametrize("said", [None, {}, {"format": "pt"}])
def test_weights_alone_are_told_from_a_checkpoint(said, tmp_path):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(plain_save({"fc.weight": torch.zeros(3)}, said))
    with pytest.raises(CheckpointError) as caught:
        load_file(path)
    assert caught.value.message == f"{path} is a safetensors file, but not a checkpoint of resnetctl"
    assert "--set model.weights=FILE" in caught.value.hint


def test_another_format_version_is_told_from_damage(tmp_path):
    later = {"__metadata__": {"resnetctl": json.dumps({"format": FORMAT + 1})}}
    path = write_raw(tmp_path / "x.safetensors", json.dumps(later).encode())
    with pytest.raises(CheckpointError) as caught:
        load_file(path)
    assert caught.value.message == f"{path} has another format version than this resnetctl ({FORMAT})"


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> tuple[Path, bytes]:
    folder = tmp_path_factory.mktemp("mutated")
    commit = save_checkpoint(folder, checkpoint(3, {"model.a": torch.arange(4.0), "b": torch.zeros(2, 0)}))
    return commit.path, commit.path.read_bytes()


edits = st.lists(
    st.tuples(st.sampled_from(["set", "insert", "delete"]), st.integers(0, 400), st.integers(0, 255)),
    min_size=1,
    max_size=5,
)


@given(edits)
@settings(deadline=None, max_examples=300)
def test_any_change_of_the_bytes_is_a_checkpoint_error(saved, edits):
    path, data = saved
    damaged = bytearray(data)
    for kind, at, value in edits:
        at %= len(damaged) + 1
        damaged[at : at + (kind != "insert")] = b"" if kind == "delete" else bytes([value])
    path.write_bytes(damaged)
    if damaged != data:
        with pytest.raises(CheckpointError):
            load_commit(commits(path.parent)[0])
    alone = path.with_name("alone.safetensors")
    alone.write_bytes(damaged)
    try:  # without a record only what makes no sense can be noticed, and nothing else may happen
        loaded = load_file(alone)
    except CheckpointError:
        return
    assert sum(t.nbytes for t in loaded.tensors.values()) <= len(damaged)


# --- the disk ---------------------------------------------------------------------------------------------------


def in_a_child(work: Callable[[], Any]) -> int:
    """Do `work` in a forked process; its exit code (1 where it raised OSError), or minus the signal that ended it."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except OSError:
            os._exit(1)
        finally:
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.parametrize("same_step", [False, True])
@pytest.mark.parametrize("room", [0, 100, 5000, 300_000])
def test_a_full_disk_leaves_the_earlier_checkpoint_whole(room, same_step, tmp_path):
    """Writing beyond `room` bytes fails, as on a full disk; the new checkpoint has 400 KB."""
    before = save_checkpoint(tmp_path, small(10))
    new = checkpoint(10 if same_step else 20, {"w": torch.ones(100_000)})

    def save() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
        save_checkpoint(tmp_path, new)

    assert in_a_child(save) == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000010.json", "step-00000010.safetensors"]
    commit, loaded = load_newest(tmp_path, no_damage)
    assert commit == before
    assert equal(loaded, small(10))


def test_a_kill_at_any_moment_of_a_save_leaves_the_earlier_one(tmp_path):
    """Before each of its file operations in turn."""
    before = save_checkpoint(tmp_path, small(10))
    moments = 0
    while True:

        def save(moment=(f"* {tmp_path}*", moments + 1)) -> None:
            kill_before(moment)
            save_checkpoint(tmp_path, checkpoint(20, {"w": torch.ones(1000), "v": torch.ones(5)}))

        if (code := in_a_child(save)) == 0:
            break
        assert code == -signal.SIGKILL
        moments += 1
        *new, old = commits(tmp_path)
        assert old == before
        assert equal(load_commit(old), small(10))
        assert [commit.step for commit in new] in ([], [20])  # [20]: its record had its name already
        sweep_temporary_files(tmp_path)
        after = save_checkpoint(tmp_path, small(20))
        assert commits(tmp_path) == [after, before]
        remove(after)
        assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000010.json", "step-00000010.safetensors"]
    assert moments > 15
