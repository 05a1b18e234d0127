"""A checkpoint: one safetensors file that holds everything, and a small commit record beside it.

    step-00001200.safetensors   model.* optimizer.* rng.* tensors; one JSON document in the metadata
    step-00001200.json          its sha256, size and step: written last, so what has no record was never finished

No pickle anywhere. `model.*` uses torchvision's parameter names. A file is written beside its final name, synced,
read back and compared, renamed; the newest checkpoint is found by scanning for records, never by a pointer.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from resnetctl.errors import CheckpointError, printable
from resnetctl.files import atomic_file, fault_point, write_all, write_atomically

FORMAT = 1
_METADATA_KEY = "resnetctl"
_NAME = re.compile(r"step-(\d{8,})\.safetensors")
_MAX_HEADER_BYTES = 16 << 20
_MAX_DIMENSIONS = 8
_CHUNK = 16 << 20


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint in memory: tensors on the CPU by name, and its metadata."""

    tensors: Mapping[str, torch.Tensor]
    metadata: Mapping[str, Any]
    """`step`, `epoch`, `samples_seen`, `recipe`, `classes`, `class_names`, `index`, `metrics`, `versions`, …"""

    def part(self, prefix: str) -> dict[str, torch.Tensor]:
        """The tensors below `prefix.`, under their names without it."""
        return {k[len(prefix) + 1 :]: t for k, t in self.tensors.items() if k.startswith(prefix + ".")}


@dataclass(frozen=True)
class Commit:
    """A finished checkpoint file as its commit record describes it."""

    path: Path
    step: int
    size: int
    sha256: str


def checkpoint_name(step: int) -> str:
    """The file name of the checkpoint after `step` steps."""
    return f"step-{step:08d}.safetensors"


def _record(path: Path) -> Path:
    return path.with_suffix(".json")


def save_checkpoint(folder: Path, step: int, checkpoint: Checkpoint) -> Commit:
    """Write the checkpoint of `step` into `folder` and commit it. Raises OSError (a full disk) with nothing changed.

    Files get mode 0644 less the umask. An earlier checkpoint of that step is replaced, its record first.
    """
    path = folder / checkpoint_name(step)
    metadata = json.dumps({"format": FORMAT, **checkpoint.metadata}, sort_keys=True, ensure_ascii=True)
    digest, size = hashlib.sha256(), 0
    with atomic_file(path) as fd:
        for n, part in enumerate(_serialise(checkpoint.tensors, metadata)):
            write_all(fd, part)
            digest.update(part)
            size += len(part)
            if n == len(checkpoint.tensors) // 2:
                fault_point("safetensors-half")
        os.fsync(fd)
        if _sha256(fd) != digest.hexdigest():
            raise CheckpointError(
                f"{printable(path)} reads back differently from what was written",
                hint="the disk or its memory is failing; earlier checkpoints are untouched",
            )
        _record(path).unlink(missing_ok=True)  # it speaks of the file that is replaced now
    commit = Commit(path, step, size, digest.hexdigest())
    record = {"step": step, "size": size, "sha256": commit.sha256}
    write_atomically(_record(path), json.dumps(record, sort_keys=True) + "\n")
    return commit


def _serialise(tensors: Mapping[str, torch.Tensor], metadata: str) -> Iterator[memoryview]:
    """The bytes of a safetensors file, its largest types first as the library aligns them, from the tensors' memory.

    The library would copy them all while it keeps Python's lock, and training waits for that. The metadata has one key
    only, so that the same state gives the same bytes.
    """
    names = {dtype: name for name, dtype in _DTYPES.items()}
    assert all(t.dtype in names for t in tensors.values())  # what cannot be loaded is not saved
    header: dict[str, Any] = {"__metadata__": {_METADATA_KEY: metadata}}
    order = sorted(tensors, key=lambda k: (-tensors[k].dtype.itemsize, k))
    offset = 0
    for k in order:
        t = tensors[k]
        header[k] = {"dtype": names[t.dtype], "shape": list(t.shape), "data_offsets": [offset, offset + t.nbytes]}
        offset += t.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    yield memoryview(len(text).to_bytes(8, "little") + text)
    for k in order:
        yield tensors[k].contiguous().reshape(-1).view(torch.uint8).numpy().data


def _sha256(fd: int) -> str:
    digest, offset = hashlib.sha256(), 0
    while chunk := os.pread(fd, _CHUNK, offset):
        digest.update(chunk)
        offset += len(chunk)
    return digest.hexdigest()


def commits(folder: Path) -> list[Commit]:
    """The committed checkpoints of `folder`, the newest first. Files without a readable record are none."""
    found = []
    for path in folder.glob("step-*.safetensors"):
        match = _NAME.fullmatch(path.name)
        if not match or path.is_symlink():
            continue
        commit = _read_record(path, int(match[1]))
        if commit is not None:
            found.append(commit)
    return sorted(found, key=lambda c: c.step, reverse=True)


def _read_record(path: Path, step: int) -> Commit | None:
    try:
        with _record(path).open("rb") as file:
            record = json.loads(file.read(4096))
        if record["step"] != step:
            return None
        return Commit(path, step, int(record["size"]), str(record["sha256"]))
    except (OSError, ValueError, KeyError, TypeError, RecursionError, OverflowError):
        return None


def load_commit(commit: Commit) -> Checkpoint:
    """The checkpoint of a record. Raises CheckpointError where the file is not what was committed."""
    return _load(commit.path, commit)


def load_newest(folder: Path, damaged: Callable[[Commit, CheckpointError], None]) -> tuple[Commit, Checkpoint]:
    """The newest whole checkpoint of `folder`; `damaged` hears of each newer one that is not.

    Raises CheckpointError where there is none, or none is whole: never a new start in silence.
    """
    found = commits(folder)
    for commit in found:
        try:
            return commit, load_commit(commit)
        except CheckpointError as error:
            damaged(commit, error)
    if found:
        raise CheckpointError(
            f"all {len(found)} checkpoints in {printable(folder)} are damaged",
            hint="restore one from a backup, or start a new run under another --name",
        )
    raise CheckpointError(f"there is no finished checkpoint in {printable(folder)}", hint="start with: resnetctl train")


def load_file(path: Path) -> Checkpoint:
    """A checkpoint file, checked against its commit record where it has one beside it.

    Raises CheckpointError where it is missing, damaged, or not a checkpoint of resnetctl.
    """
    match = _NAME.fullmatch(path.name)
    return _load(path, _read_record(path, int(match[1])) if match else None)


def load_metadata(path: Path) -> Mapping[str, Any]:
    """The metadata of a checkpoint file without its tensors; the contents are not checked against the record.

    Raises CheckpointError as `load_file` does.
    """
    return _load(path, None, tensors=False).metadata


def verify_commit(commit: Commit) -> None:
    """Raises CheckpointError where the file is not what was committed."""
    with _opened(commit.path) as fd:
        _check(commit, fd)


def _load(path: Path, commit: Commit | None, *, tensors: bool = True) -> Checkpoint:
    with _opened(path) as fd:
        if commit:
            _check(commit, fd)
        return _parse(path, fd, os.fstat(fd).st_size, tensors)


def _check(commit: Commit, fd: int) -> None:
    size = os.fstat(fd).st_size
    if size != commit.size:
        raise _bad(commit.path, f"it has {size:,} bytes, and {commit.size:,} were committed")
    if _sha256(fd) != commit.sha256:
        raise _bad(commit.path, "its sha256 is not the committed one")


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise CheckpointError(
            f"there is no checkpoint {printable(path)}", hint="resnetctl checkpoint list shows what there is"
        ) from None
    except OSError as error:
        raise CheckpointError(f"cannot read {printable(path)}: {error.strerror}") from error
    try:
        yield fd
    except OSError as error:
        raise CheckpointError(f"cannot read {printable(path)}: {error.strerror or error}") from error
    finally:
        os.close(fd)


def _bad(path: Path, why: str) -> CheckpointError:
    return CheckpointError(f"checkpoint {printable(path)} is damaged: {printable(why)}")


_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


def _parse(path: Path, fd: int, size: int, with_tensors: bool) -> Checkpoint:
    """Read with pread: a mapped file that is cut later would kill the process (SIGBUS)."""
    header_bytes = int.from_bytes(os.pread(fd, 8, 0), "little")
    if size < 8 or not 2 <= header_bytes <= min(_MAX_HEADER_BYTES, size - 8):
        raise _bad(path, "its header does not fit into it")
    try:
        header = json.loads(os.pread(fd, header_bytes, 8))
        text = header.pop("__metadata__", {}).get(_METADATA_KEY)
        places = sorted((*e["data_offsets"], k, e["dtype"], e["shape"]) for k, e in header.items())
        if text is None:
            raise CheckpointError(
                f"{printable(path)} is a safetensors file, but not a checkpoint of resnetctl",
                hint="weights alone can start a run: --set model.weights=FILE",
            )
        metadata = json.loads(text)
        if metadata.pop("format") != FORMAT:
            raise CheckpointError(
                f"{printable(path)} has another format version than this resnetctl ({FORMAT})",
                hint="install the version that wrote it, or a newer one",
            )
        tensors = dict(_tensors(path, fd, 8 + header_bytes, size, places)) if with_tensors else {}
    except CheckpointError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError, OverflowError) as error:
        raise _bad(path, f"its header makes no sense ({error})") from error
    return Checkpoint(tensors, metadata)


def _tensors(path: Path, fd: int, base: int, size: int, places: list[Any]) -> Iterator[tuple[str, torch.Tensor]]:
    expected = 0
    for begin, end, key, dtype_name, shape in places:
        dtype = _DTYPES[dtype_name]
        if len(shape) > _MAX_DIMENSIONS:
            raise ValueError(f"shape of {key}")
        count = 1
        for n in shape:
            if type(n) is not int or not 0 <= n <= size:
                raise ValueError(f"shape of {key}")
            count *= n
        # tensors must lie side by side, so their sizes add up to the file's: nothing can claim more memory than that
        if begin != expected or end - begin != count * dtype.itemsize or base + end > size:
            raise ValueError(f"place of {key}")
        expected = end
        if not count:
            yield key, torch.empty(shape, dtype=dtype)
            continue
        buffer = bytearray(end - begin)
        view, offset = memoryview(buffer), base + begin
        while view:
            got = os.preadv(fd, [view[:_CHUNK]], offset)
            if not got:
                raise _bad(path, "it ends early")
            view, offset = view[got:], offset + got
        yield key, torch.frombuffer(buffer, dtype=dtype).reshape(shape)
    if base + expected != size:
        raise ValueError("bytes after the last tensor")


def remove(commit: Commit) -> None:
    """Delete a checkpoint: its record first, so that half a deletion is a file that was never committed."""
    _record(commit.path).unlink(missing_ok=True)
    fault_point("prune-half")
    commit.path.unlink(missing_ok=True)


def set_aside(commit: Commit) -> None:
    """Rename a damaged checkpoint, so that its step can be written anew and nothing is lost."""
    _record(commit.path).unlink(missing_ok=True)
    if commit.path.exists():
        commit.path.replace(commit.path.with_suffix(".damaged"))
