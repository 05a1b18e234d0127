"""Deleting a run."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

from resnetctl.errors import UsageError, printable
from resnetctl.files import folder_lock
from resnetctl.runs.find import runs
from resnetctl.runs.folder import LATEST, Run, point_latest, refuse_links


def remove_run(root: Path, run: Run) -> None:
    """Delete the run's folder with everything in it; `root/latest` then points to the newest remaining run.

    Checkpoints are deleted last, so that an interrupted deletion leaves a run that is still listed. Raises
    ResnetctlError if a process is using it, UsageError if it is a link.
    """
    if run.folder.is_symlink():
        raise UsageError(
            f"{printable(run.folder)} is a symbolic link, and only folders are deleted",
            hint="give its target, or remove the link by hand",
        )
    refuse_links(run)
    with folder_lock(run.folder, "training"):
        for path in run.folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                if path != run.checkpoints:
                    shutil.rmtree(path)
            elif path.name != ".lock":
                path.unlink()
        shutil.rmtree(run.checkpoints)
        shutil.rmtree(run.folder)
    mend_latest(root)


def mend_latest(root: Path) -> None:
    """If the target of `root/latest` is gone, point it to the newest run, or remove it if there is none."""
    link = root / LATEST
    if not link.is_symlink() or (link / "checkpoints").is_dir():
        return
    left = runs(root)
    if left:
        point_latest(root, left[0])
    else:
        with contextlib.suppress(FileNotFoundError):
            link.unlink()
