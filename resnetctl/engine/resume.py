"""Where a resumed run starts from, and whether it still is the same run."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from resnetctl.checkpoint import Checkpoint, Commit, commits, load_file, load_newest, set_aside
from resnetctl.data.index import Index
from resnetctl.engine.run import Run, create_run, find_run
from resnetctl.errors import CheckpointError, DataError, UsageError, printable
from resnetctl.files import write_atomically
from resnetctl.recipe import Override, Recipe, change_recipe, differences, recipe_from_dict, recipe_to_toml


def find_start(root: Path, which: str | None) -> tuple[Run, Checkpoint, list[str]]:
    """The run that `which` names (None: the latest), the checkpoint to go on from, and warnings to show.

    `which` is a run's name or folder, or a checkpoint file. A damaged newest checkpoint is set aside and the one
    before it taken. Raises CheckpointError where there is none to go on from.
    """
    warnings: list[str] = []
    path = Path(which) if which is not None else None
    if path is not None and (path.is_file() or path.suffix == ".safetensors"):
        return Run(path.absolute().parent.parent), load_file(path), warnings
    run = find_run(root, which)
    damaged: list[Commit] = []

    def note(commit: Commit, error: CheckpointError) -> None:
        damaged.append(commit)
        warnings.append(f"{error.message}; going on from the one before it")

    _, checkpoint = load_newest(run.checkpoints, note)
    for commit in damaged:
        set_aside(commit)
    return run, checkpoint, warnings


def resumed_recipe(
    checkpoint: Checkpoint, recipe_name: str | None, flags: list[Override]
) -> tuple[Recipe, list[tuple[str, Any, Any]]]:
    """The checkpoint's recipe with `flags` over it, and what that changes: `(key, before, after)`."""
    before = recipe_from_dict(checkpoint.metadata["recipe"])
    if recipe_name is not None and recipe_name != before.name:
        raise UsageError(
            f"this run was started with the recipe {printable(before.name)}, not {printable(recipe_name)}",
            hint="leave --recipe out; to start from its weights: --set model.weights=CHECKPOINT",
        )
    after = change_recipe(before, flags)
    return after, differences(before, after)


def check_data(checkpoint: Checkpoint, index: Index) -> None:
    """Raises DataError where the train images are not those that the run was started on."""
    was = checkpoint.metadata.get("index", {})
    if was.get("train") == index.info.fingerprint:
        return
    classes = list(index.info.classes)
    if checkpoint.metadata.get("classes") != classes:
        what = f"its classes are others ({len(checkpoint.metadata.get('classes', []))} then, {len(classes)} now)"
    else:
        what = f"it has {len(index):,} train images, and had {was.get('images', 0):,}, or their names or sizes changed"
    raise DataError(
        f"this is not the data set that the run was started on: {what}",
        hint="give the right one with --data, or start a new run from its weights: --set model.weights=CHECKPOINT",
    )


def check_newest(run: Run, checkpoint: Checkpoint) -> None:
    """Raises UsageError where the run has later checkpoints than this one, which going on would contradict."""
    newest = next(iter(commits(run.checkpoints)), None)
    step = int(checkpoint.metadata["step"])
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
