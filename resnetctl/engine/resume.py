"""Where a resumed run starts from, and whether it still is the same run."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from resnetctl.data.index import Index
from resnetctl.distributed.group import Group
from resnetctl.errors import CheckpointError, DataError, UsageError, counted, printable
from resnetctl.files import write_atomically
from resnetctl.recipe import Override, Recipe, change_recipe, differences, recipe_to_toml
from resnetctl.runs.checkpoint import Checkpoint, Commit, commits, load_file, load_newest, set_aside
from resnetctl.runs.folder import Run, create_run, find_run, runs
from resnetctl.runs.metadata import read_metadata


def find_resumed(root: Path, which: str | None) -> tuple[Run, Path | None]:
    """The run that `which` names (None: the latest), and the checkpoint file where it names one of that run's.

    Raises CheckpointError where there is no such run.
    """
    path = Path(which) if which is not None else None
    if path is not None and (path.is_file() or path.suffix == ".safetensors"):
        folder = path.absolute().parent
        if not path.exists() or folder.name != "checkpoints" or path.is_symlink():
            what = "is a link" if path.is_symlink() else "lies in no run's folder" if path.exists() else "is not there"
            raise CheckpointError(
                f"the checkpoint {printable(path)} {what}",
                hint="to start a new run from its weights: resnetctl train --set model.weights=FILE",
            )
        return Run(folder.parent), path
    return find_run(root, which), None


def load_start(run: Run, path: Path | None, warn: Callable[[str], None]) -> Checkpoint:
    """The checkpoint at `path`, or the newest of the run that is whole; damaged newer ones are set aside.

    Call it under the run's lock. Raises CheckpointError where there is none to go on from.
    """
    if path is not None:
        return load_file(path)
    damaged: list[Commit] = []

    def note(commit: Commit, error: CheckpointError) -> None:
        damaged.append(commit)
        warn(f"{error.message}; going on from the one before it")

    _, checkpoint = load_newest(run.checkpoints, note)
    for commit in damaged:
        set_aside(commit)
    return checkpoint


def started_before(root: Path, launches: Sequence[str | None], name: str | None) -> Run | None:
    """The run that one of `launches` (see `World.launch`) began before it was started again; None where there is none.

    Where it gave its run a `name`, only that one: a job may train several.
    """
    known = {launch for launch in launches if launch is not None}
    return next((r for r in runs(root) if (name is None or r.name == name) and r.launch() in known), None)


def resumed_recipe(
    checkpoint: Checkpoint, recipe_name: str | None, flags: list[Override]
) -> tuple[Recipe, list[tuple[str, Any, Any]]]:
    """The checkpoint's recipe with `flags` over it, and what that changes: `(key, before, after)`."""
    before = read_metadata(checkpoint).recipe
    if recipe_name is not None and recipe_name != before.name:
        raise UsageError(
            f"this run was started with the recipe {printable(before.name)}, not {printable(recipe_name)}",
            hint="leave --recipe out; to start from its weights: --set model.weights=CHECKPOINT",
        )
    after = change_recipe(before, flags)
    return after, differences(before, after)


def check_data(checkpoint: Checkpoint, index: Index) -> None:
    """Raises DataError where the train images are not those that the run was started on."""
    was = read_metadata(checkpoint)
    if was.train_fingerprint == index.info.fingerprint:
        return
    if was.classes != index.info.classes:
        what = f"its classes are others ({len(was.classes)} then, {len(index.info.classes)} now)"
    else:
        what = f"it has {len(index):,} train images, and had {was.train_images:,}, or their names or sizes changed"
    if index.quarantined and was.train_fingerprint == index.info.whole_fingerprint:
        raise DataError(
            f"verify has put {counted(index.quarantined, 'train image')} into quarantine since the run was started",
            hint="to go on with them, as before: resnetctl prepare --release-quarantined; or start a new run without "
            "them, from its weights: --set model.weights=CHECKPOINT",
        )
    raise DataError(
        f"this is not the data set that the run was started on: {what}",
        hint="give the right one with --data, or start a new run from its weights: --set model.weights=CHECKPOINT",
    )


def check_newest(run: Run, checkpoint: Checkpoint) -> None:
    """Raises UsageError where the run has later checkpoints than this one, which going on would contradict."""
    newest = next(iter(commits(run.checkpoints)), None)
    step = read_metadata(checkpoint).step
    if newest is not None and newest.step > step:
        raise UsageError(
            f"the run {printable(run.name)} has gone on from step {step:,} to {newest.step:,}",
            hint="add --name NEW to go on from here in a run of its own",
        )


def branch(root: Path, run: Run, name: str, checkpoint: Checkpoint, recipe: Recipe) -> Run:
    """A new run called `name` that goes on from `checkpoint`, with the metrics of `run` so far."""
    new = create_run(root, name, recipe.name)
    write_atomically(new.recipe, recipe_to_toml(recipe))
    if run.metrics.exists():
        shutil.copyfile(run.metrics, new.metrics)
    return new


def share_start(group: Group, start: Checkpoint | None) -> Checkpoint | None:
    """The first rank's checkpoint, on every rank: the others need not see the runs' folder."""
    metadata = group.broadcast(None if start is None else dict(start.metadata))
    if metadata is None:
        return None
    return Checkpoint(group.broadcast_tensors({} if start is None else start.tensors), metadata)
