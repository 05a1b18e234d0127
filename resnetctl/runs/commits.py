"""Committed checkpoint files: naming, finding, checking and removing them, and reading their headers.

    step-00001200.safetensors   model.* optimizer.* progress.* tensors; one JSON document in the metadata
    step-00001200.json          the commit record: size, sha256 and step; written last

A file without a record was never finished. The newest checkpoint is found by scanning for records, never by a pointer.
Nothing here needs torch.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from resnetctl.errors import CheckpointError, printable
from resnetctl.runs.metadata import Metadata, read_metadata
from resnetctl.typed_json import decode_text

FORMAT = 1
METADATA_KEY = "resnetctl"
_NAME = re.compile(r"step-(\d{8,})\.safetensors")
_MAX_HEADER_BYTES = 16 << 20
_MAX_RECORD_BYTES = 4096
_CHUNK = 16 << 20


@dataclass(frozen=True)
class Commit:
    """A finished checkpoint file as its commit record describes it."""

    path: Path = field(metadata={"json": None})
    step: int
    size: int
    """Bytes."""
    sha256: str


def checkpoint_name(step: int) -> str:
    """The file name of the checkpoint after `step` steps."""
    return f"step-{step:08d}.safetensors"


def record_path(path: Path) -> Path:
    """The path of the commit record of the checkpoint file at `path`."""
    return path.with_suffix(".json")


def commits(folder: Path) -> list[Commit]:
    """The committed checkpoints of `folder`, newest first, without files that have no readable record."""
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
        with record_path(path).open("rb") as file:
            commit = decode_text(Commit, file.read(_MAX_RECORD_BYTES), "the commit record", path=path)
    except (OSError, ValueError):
        return None
    return commit if commit.step == step else None


def uncommitted(folder: Path) -> list[Path]:
    """Checkpoint files of `folder` without a readable record, newest first."""
    files = [p for p in folder.glob("step-*.safetensors") if _NAME.fullmatch(p.name) and not p.is_symlink()]
    return sorted((p for p in files if committed(p) is None), reverse=True)


def committed(path: Path) -> Commit | None:
    """The commit record of the checkpoint file at `path`; None without a readable one."""
    match = _NAME.fullmatch(path.name)
    return _read_record(path, int(match[1])) if match else None


def verify_commit(commit: Commit) -> None:
    """Raise CheckpointError if the file is not what was committed."""
    with opened(commit.path) as fd:
        check_contents(commit, fd)


def check_contents(commit: Commit, fd: int) -> None:
    """As `verify_commit`, for an open file."""
    size = os.fstat(fd).st_size
    if size != commit.size:
        raise damaged(commit.path, f"it has {size:,} bytes, but {commit.size:,} were committed")
    if sha256(fd) != commit.sha256:
        raise damaged(commit.path, "its sha256 is not the committed one")


def sha256(fd: int) -> str:
    """The sha256 of a whole open file, in hexadecimal."""
    digest, offset = hashlib.sha256(), 0
    while chunk := os.pread(fd, _CHUNK, offset):
        digest.update(chunk)
        offset += len(chunk)
    return digest.hexdigest()


@contextlib.contextmanager
def opened(path: Path) -> Iterator[int]:
    """A descriptor of the checkpoint file at `path`; CheckpointError if it cannot be read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise CheckpointError(
            f"there is no checkpoint {printable(path)}", hint="resnetctl checkpoint list shows the existing ones"
        ) from None
    except OSError as error:
        raise CheckpointError(f"cannot read {printable(path)}: {error.strerror}") from error
    try:
        yield fd
    except OSError as error:
        raise CheckpointError(f"cannot read {printable(path)}: {error.strerror or error}") from error
    finally:
        os.close(fd)


def damaged(path: Path, why: str) -> CheckpointError:
    """The error for a checkpoint file that cannot be used."""
    return CheckpointError(f"checkpoint {printable(path)} is damaged: {printable(why)}")


@dataclass(frozen=True)
class Header:
    """The header of a checkpoint file."""

    tensors: dict[str, Any]
    """As in the safetensors format: name to dtype, shape and data_offsets; not checked."""
    metadata: Metadata
    size: int
    """Bytes of the header; the tensors follow."""


def read_header(path: Path, fd: int) -> Header:
    """The header of an open checkpoint file.

    Raises CheckpointError if it is damaged, of another format version, or not a checkpoint of resnetctl.
    """
    length = int.from_bytes(os.pread(fd, 8, 0), "little")
    if length > min(_MAX_HEADER_BYTES, os.fstat(fd).st_size - 8):
        raise damaged(path, "its header does not fit into it")
    try:
        header = json.loads(os.pread(fd, length, 8))
        text = header.pop("__metadata__", {}).get(METADATA_KEY)
        if text is None:
            raise CheckpointError(
                f"{printable(path)} is a safetensors file, but not a checkpoint of resnetctl",
                hint="weights alone can start a run: --set model.weights=FILE",
            )
        document = json.loads(text)
        if document.pop("format") != FORMAT:
            raise CheckpointError(
                f"{printable(path)} has another format version than this resnetctl ({FORMAT})",
                hint="install the version that wrote it, or a newer one",
            )
    except CheckpointError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise damaged(path, f"its header makes no sense ({error})") from error
    return Header(header, read_metadata(document), 8 + length)


def load_metadata(path: Path) -> Metadata:
    """The metadata of a checkpoint file; its contents are not compared with the commit record.

    Raises CheckpointError as `read_header` does, or if there is no such file.
    """
    with opened(path) as fd:
        return read_header(path, fd).metadata


def remove(commit: Commit) -> None:
    """Delete a checkpoint, its record first, so that an interrupted deletion leaves an uncommitted file."""
    record_path(commit.path).unlink(missing_ok=True)
    commit.path.unlink(missing_ok=True)


def set_aside(commit: Commit) -> None:
    """Rename a damaged checkpoint, so that its step can be written again and nothing is lost."""
    record_path(commit.path).unlink(missing_ok=True)
    if commit.path.exists():
        commit.path.replace(commit.path.with_suffix(".damaged"))
