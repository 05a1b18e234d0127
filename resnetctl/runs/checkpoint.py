"""A checkpoint: one safetensors file with everything a run needs to continue.

No pickle anywhere. `model.*` uses torchvision's parameter names. A file is written under a temporary name, synced, read
back and compared, and renamed; its commit record is written last (see `commits`).

Hand-written: the library copies all tensors under Python's lock while writing, and reading bytes takes 2.01 times the
file's size in memory (measured on ResNet-50) instead of 1; a mapped file that is truncated later would kill the
process (SIGBUS).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from resnetctl.errors import CheckpointError, counted, printable
from resnetctl.files import atomic_file, write_all, write_atomically
from resnetctl.runs.commits import (
    FORMAT,
    METADATA_KEY,
    Commit,
    Header,
    check_contents,
    checkpoint_name,
    commits,
    committed,
    damaged,
    opened,
    read_header,
    record_path,
    sha256,
    uncommitted,
)
from resnetctl.runs.find import checkpoint_file, find_run
from resnetctl.runs.metadata import Metadata
from resnetctl.typed_json import encode

_MAX_DIMENSIONS = 8
_CHUNK = 16 << 20

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


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint in memory: tensors on the CPU by name, and metadata."""

    tensors: Mapping[str, torch.Tensor]
    metadata: Metadata

    def part(self, prefix: str) -> dict[str, torch.Tensor]:
        """The tensors below `prefix.`, by their names without it."""
        return {k[len(prefix) + 1 :]: t for k, t in self.tensors.items() if k.startswith(prefix + ".")}


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> Commit:
    """Write a checkpoint into `folder` and commit it. Raises OSError (a full disk) with nothing changed.

    Files get mode 0644 minus the umask. An earlier checkpoint of that step is replaced, its record first.
    """
    step = checkpoint.metadata.step
    path = folder / checkpoint_name(step)
    metadata = json.dumps({"format": FORMAT, **checkpoint.metadata.to_json()}, sort_keys=True)
    digest, size = hashlib.sha256(), 0
    with atomic_file(path) as fd:
        for part in _serialise(checkpoint.tensors, metadata):
            write_all(fd, part)
            digest.update(part)
            size += len(part)
        os.fsync(fd)
        if sha256(fd) != digest.hexdigest():
            raise CheckpointError(
                f"{printable(path)} reads back differently from what was written",
                hint="the disk or its memory is failing; earlier checkpoints are untouched",
            )
        record_path(path).unlink(missing_ok=True)  # it describes the file that is now replaced
    commit = Commit(path, step, size, digest.hexdigest())
    write_atomically(record_path(path), json.dumps(encode(commit), sort_keys=True) + "\n")
    return commit


def _serialise(tensors: Mapping[str, torch.Tensor], metadata: str) -> Iterator[memoryview]:
    """The bytes of a safetensors file, from the tensors' memory, largest types first as the library aligns them.

    The library would copy all of them under Python's lock, and training would wait. The metadata has a single key, so
    that the same state gives the same bytes.
    """
    names = {dtype: name for name, dtype in _DTYPES.items()}
    assert all(t.dtype in names for t in tensors.values())  # anything saved must be loadable
    header: dict[str, Any] = {"__metadata__": {METADATA_KEY: metadata}}
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


def load_commit(commit: Commit) -> Checkpoint:
    """The checkpoint of a record. Raises CheckpointError if the file is not what was committed."""
    return _load(commit.path, commit)


def load_newest(folder: Path, damaged: Callable[[Commit, CheckpointError], None]) -> tuple[Commit, Checkpoint]:
    """The newest intact checkpoint of `folder`; `damaged` is called for each newer one that is damaged.

    Raises CheckpointError if there is none, or none is intact: a run never silently starts over.
    """
    found = commits(folder)
    without = uncommitted(folder)
    for commit in found:
        try:
            return commit, load_commit(commit)
        except CheckpointError as error:
            damaged(commit, error)
    if found:
        what = f"all {len(found)} checkpoints" if len(found) > 1 else "the only checkpoint"
        raise CheckpointError(
            f"{what} in {printable(folder)} {'are' if len(found) > 1 else 'is'} damaged",
            hint="restore one from a backup, or start a new run under another --name",
        )
    if without:
        raise CheckpointError(
            f"{counted(len(without), 'checkpoint file')} in {printable(folder)}, but no commit record: each was being "
            "written when the run ended, or its .json file was deleted",
            hint=f"use one without it: resnetctl train --resume {printable(without[0])}, or resnetctl eval with it",
        )
    raise CheckpointError(f"no finished checkpoint in {printable(folder)}", hint="start with: resnetctl train")


def find_checkpoint(root: Path, which: str | None, warn: Callable[[str], None]) -> tuple[Path, Checkpoint]:
    """The checkpoint file that `which` names, or the newest intact one of the run it names (None: the latest)."""
    path = checkpoint_file(which)
    if path is not None:
        return path, load_file(path)
    run = find_run(root, which)
    commit, checkpoint = load_newest(
        run.checkpoints, lambda c, error: warn(f"{error.message}; taking the one before it")
    )
    return commit.path, checkpoint


def load_file(path: Path) -> Checkpoint:
    """A checkpoint file, checked against its commit record if there is one beside it.

    Raises CheckpointError if it is missing, damaged, or not a checkpoint of resnetctl.
    """
    return _load(path, committed(path))


def _load(path: Path, commit: Commit | None) -> Checkpoint:
    with opened(path) as fd:
        if commit:
            check_contents(commit, fd)
        header = read_header(path, fd)
        try:
            return Checkpoint(dict(_tensors(path, fd, header)), header.metadata)
        except (ValueError, KeyError, TypeError, AttributeError, RuntimeError, OverflowError) as error:
            if isinstance(error, CheckpointError):
                raise
            raise damaged(path, f"its header makes no sense ({error})") from error


def _tensors(path: Path, fd: int, header: Header) -> Iterator[tuple[str, torch.Tensor]]:
    base, size = header.size, os.fstat(fd).st_size
    places = sorted((*e["data_offsets"], k, e["dtype"], e["shape"]) for k, e in header.tensors.items())
    expected = 0
    for begin, end, key, dtype_name, shape in places:
        dtype = _DTYPES[dtype_name]
        if len(shape) > _MAX_DIMENSIONS:
            raise ValueError(f"shape of {key}")
        count = 1
        for n in shape:
            if type(n) is not int or n not in range(size):
                raise ValueError(f"shape of {key}")
            count *= n
        # tensors must be contiguous, so their sizes add up to the file's: none can claim more memory than that
        if begin != expected or end - begin != count * dtype.itemsize or base + end > size:
            raise ValueError(f"offset of {key}")
        expected = end
        if not count:
            yield key, torch.empty(shape, dtype=dtype)
            continue
        buffer = bytearray(end - begin)
        view, offset = memoryview(buffer), base + begin
        while view:
            got = os.preadv(fd, [view[:_CHUNK]], offset)
            if not got:
                raise damaged(path, "it ends early")
            view, offset = view[got:], offset + got
        yield key, torch.frombuffer(buffer, dtype=dtype).reshape(shape)
    if base + expected != size:
        raise ValueError("bytes after the last tensor")
