"""Resuming from a run's checkpoints, in the same run or a new one."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from resnetctl.errors import CheckpointError, UsageError, printable
from resnetctl.files import write_atomically
from resnetctl.recipe import Recipe, recipe_to_toml
from resnetctl.runs.checkpoint import Checkpoint, load_file, load_newest
from resnetctl.runs.commits import Commit, commits, set_aside, uncommitted
from resnetctl.runs.folder import Run, create_run


def load_start(run: Run, path: Path | None, warn: Callable[[str], None]) -> Checkpoint:
    """The checkpoint at `path`, or the newest intact one of the run; damaged newer ones are set aside.

    Call it under the run's lock. Raises CheckpointError if there is none.
    """
    if path is not None:
        return load_file(path)
    damaged: list[Commit] = []

    def note(commit: Commit, error: CheckpointError) -> None:
        damaged.append(commit)
        warn(f"{error.message}; falling back to the one before it")

    newest, checkpoint = load_newest(run.checkpoints, note)
    for path in uncommitted(run.checkpoints)[:1]:
        if path.name > newest.path.name:
            warn(f"{printable(path)} is newer but has no commit record, so it is ignored")
    for commit in damaged:
        set_aside(commit)
    return checkpoint


def check_newest(run: Run, checkpoint: Checkpoint) -> None:
    """Raise UsageError if the run has checkpoints later than this one, which continuing would contradict."""
    newest = next(iter(commits(run.checkpoints)), None)
    step = checkpoint.metadata.step
    if newest is not None and newest.step > step:
        raise UsageError(
            f"the run {printable(run.name)} has already continued from step {step:,} to {newest.step:,}",
            hint="add --name NEW to continue from here in a new run",
        )


def branch(root: Path, run: Run, name: str, checkpoint: Checkpoint, recipe: Recipe) -> Run:
    """A new run called `name` that continues from `checkpoint`, with the metrics of `run` so far."""
    new = create_run(root, name, recipe.name)
    write_atomically(new.recipe, recipe_to_toml(recipe))
    if run.metrics.exists():
        shutil.copyfile(run.metrics, new.metrics)
    return new
