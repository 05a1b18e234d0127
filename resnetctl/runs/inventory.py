"""Lists the checkpoints of a run and whether each can be used."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

from resnetctl.errors import CheckpointError, printable
from resnetctl.runs.commits import committed, load_metadata, verify_commit
from resnetctl.runs.find import checkpoint_file, find_run
from resnetctl.runs.metadata import Metadata, best_of

_FILE = re.compile(r"step-(\d{8,})\.(safetensors|damaged)")


@dataclass(frozen=True, kw_only=True)
class Found:
    """A checkpoint file."""

    path: Path
    step: int | None
    size: int
    """Bytes."""
    sha256: str | None
    """As committed; None for a file without a commit record."""
    metadata: Metadata | None
    """None if it cannot be read."""
    problem: str | None
    """Why it cannot be used, or None."""
    best: bool = False
    """Whether it has the highest top-1 of the list."""


def list_checkpoints(root: Path, which: str | None, *, contents: bool = False) -> list[Found]:
    """The checkpoints of the run that `which` names (None: the latest) or the one file, newest first.

    With `contents` every byte is compared with the commit records. Raises CheckpointError if there is none.
    """
    path = checkpoint_file(which)
    if path is not None:
        return [_of_file(path, contents)]
    run = find_run(root, which)
    files = [p for p in run.checkpoints.glob("step-*") if _FILE.fullmatch(p.name) and not p.is_symlink()]
    if not files:
        raise CheckpointError(f"{printable(run.folder)} has no checkpoint yet")
    found = sorted((_of_file(p, contents) for p in files), key=lambda f: f.path.name, reverse=True)
    usable = [f for f in found if f.problem is None and f.metadata is not None]
    # not every evaluation was saved
    measured = [e for f in usable if f.metadata for e in f.metadata.history if e.step == f.step]
    best = best_of(measured)
    return [replace(f, best=best is not None and f.step == best.step and f in usable) for f in found]


def _of_file(path: Path, contents: bool) -> Found:
    match = _FILE.fullmatch(path.name)
    commit = committed(path)
    metadata, problem = None, None
    try:
        metadata = load_metadata(path)
        if contents:
            verify_commit(commit) if commit else _read_whole(path)
        size = path.stat().st_size
        if commit and size != commit.size:
            raise CheckpointError(f"damaged: it has {size:,} bytes, but {commit.size:,} were committed")
        if match and metadata.step != int(match[1]):
            raise CheckpointError(f"damaged: it holds step {metadata.step:,}")
        if match and commit is None:
            problem = "unfinished: it was never committed"
    except CheckpointError as error:
        if not path.exists():
            raise
        problem = error.message.removeprefix(f"checkpoint {printable(path)} is ")
    if path.suffix == ".damaged":
        problem = f"damaged: set aside by a resume as {path.name}"
    return Found(
        path=path,
        step=int(match[1]) if match else metadata.step if metadata else None,
        size=path.stat().st_size,
        sha256=commit.sha256 if commit else None,
        metadata=metadata,
        problem=problem,
    )


def _read_whole(path: Path) -> None:
    from resnetctl.runs.checkpoint import load_file  # needs torch

    load_file(path)
