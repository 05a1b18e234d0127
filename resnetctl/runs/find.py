"""Resolves a name, folder or file to a run."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from resnetctl.errors import CheckpointError, did_you_mean, printable
from resnetctl.runs.folder import LATEST, NAME, Run


def runs(root: Path) -> list[Run]:
    """The runs under `root`, most recently modified first."""
    if not root.is_dir():
        return []
    found = [Run(p) for p in root.iterdir() if p.is_dir() and not p.is_symlink() and (p / "checkpoints").is_dir()]
    return sorted(found, key=lambda r: r.checkpoints.stat().st_mtime, reverse=True)


def find_run(root: Path, which: str | None) -> Run:
    """The latest run, or the one with name or path `which`. Raises CheckpointError if there is none."""
    if which is None or which == LATEST:
        link = root / LATEST
        if link.is_symlink():
            name = str(link.readlink())
            if NAME.fullmatch(name) and (root / name / "checkpoints").is_dir():
                return Run(root / name)
        found = runs(root)
        if not found:
            raise CheckpointError(f"there is no run in {printable(root)}", hint="start one with: resnetctl train")
        return found[0]
    for folder in (root / which if NAME.fullmatch(which) else None, Path(which)):
        if folder is not None and (folder / "checkpoints").is_dir():
            return Run(Path(os.path.normpath(folder)))
    names = [r.name for r in runs(root)]
    close = did_you_mean(which, names)
    raise CheckpointError(
        f"there is no run or checkpoint {printable(which)}" + (f": did you mean {close}?" if close else ""),
        hint=f"runs in {printable(root)}: {', '.join(names[:5]) or 'none'}",
    )


def checkpoint_file(which: str | None) -> Path | None:
    """`which` as the path of a checkpoint file, existing or not; None if it means a run."""
    path = Path(which) if which is not None else None
    return path if path is not None and (path.is_file() or path.suffix == ".safetensors") else None


def find_resumed(root: Path, which: str | None) -> tuple[Run, Path | None]:
    """The run that `which` names (None: the latest), and the checkpoint file if it names one.

    Raises CheckpointError if there is no such run.
    """
    path = checkpoint_file(which)
    if path is not None:
        folder = path.absolute().parent
        if not path.exists() or folder.name != "checkpoints" or path.is_symlink():
            what = "is a link" if path.is_symlink() else "lies in no run's folder" if path.exists() else "is not there"
            raise CheckpointError(
                f"the checkpoint {printable(path)} {what}",
                hint="to start a new run from its weights: resnetctl train --set model.weights=FILE",
            )
        return Run(folder.parent), path
    return find_run(root, which), None


def started_before(root: Path, launches: Sequence[str | None], name: str | None) -> Run | None:
    """The run that one of `launches` (see `World.launch`) began before it was restarted, or None.

    With a `name`, only the run of that name: a job may train several.
    """
    known = {launch for launch in launches if launch is not None}
    return next((r for r in runs(root) if (name is None or r.name == name) and r.launch() in known), None)
