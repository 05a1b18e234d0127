"""Checks made before torch is imported, which takes seconds."""

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from resnetctl.errors import CheckpointError, UsageError, printable

if TYPE_CHECKING:
    from resnetctl.data.dataset import Dataset
    from resnetctl.recipe import Override, Recipe


def check_train(
    data: Path,
    runs: Path,
    resume: bool,
    which: str | None,
    name: str | None,
    recipe: str | None,
    overrides: "list[Override]",
    gpus: str | None,
) -> None:
    """Raise the ResnetctlError that `train` would end in with these options, if already evident.

    Nothing is checked in one of several ranks: the group decides together, and only its first rank has the runs.
    """
    from resnetctl.data.dataset import load_dataset
    from resnetctl.distributed.world import is_a_rank
    from resnetctl.recipe import load_recipe
    from resnetctl.runs.folder import check_name

    if which is not None and not resume:
        meant, command = _meant(printable(which))
        raise UsageError(
            f"unexpected argument {printable(which)!r} ({meant}? {command})", hint=f"resnetctl train {command}"
        )
    if gpus is not None and gpus != "all" and not (gpus.isdecimal() and int(gpus) > 0):
        raise UsageError(f"--gpus {printable(gpus)}: a number from 1, or all", hint="resnetctl info lists the GPUs")
    if name is not None:
        check_name(name)
    if is_a_rank(os.environ):
        return
    chosen = load_recipe(recipe, overrides=overrides) if recipe is not None and not resume else None
    dataset = load_dataset(data)
    if resume:
        chosen = _resumed(runs, which, overrides)
    elif recipe is None:
        chosen, _ = suitable(dataset, overrides)
    if chosen is not None and chosen.train.tensorboard:
        from resnetctl.runs.tensorboard import check_tensorboard

        check_tensorboard()


def _meant(word: str) -> tuple[str, str]:
    """The probable meaning of a word after `train`, and the option for it."""
    from resnetctl.recipe import ARCHITECTURES, recipe_names

    if word in recipe_names() or word.endswith(".toml"):
        return "a recipe", f"--recipe {word}"
    if word in ARCHITECTURES:
        return "a model", f"--arch {word}"
    return "a run to resume", f"--resume {word}"


def _resumed(runs: Path, which: str | None, overrides: "list[Override]") -> "Recipe | None":
    """The recipe of a resumed run; None if not yet known."""
    from resnetctl.recipe import change_recipe
    from resnetctl.runs.commits import commits, load_metadata
    from resnetctl.runs.find import find_resumed

    run, path = find_resumed(runs, which)
    newest = path or next((commit.path for commit in commits(run.checkpoints)), None)
    if newest is None:
        return None
    with contextlib.suppress(CheckpointError):  # the one before it may be intact
        return change_recipe(load_metadata(newest).recipe, overrides)
    return None


def check_models(runs: Path, names: "Sequence[str | None]", data: Path | None = None) -> None:
    """Raise the ResnetctlError for a missing run, checkpoint file or (unless it is None) data set.

    Nothing is checked in one of several ranks, nor for weights, which may have to be downloaded.
    """
    from resnetctl.data.dataset import load_dataset
    from resnetctl.distributed.world import is_a_rank
    from resnetctl.runs.commits import load_metadata
    from resnetctl.runs.find import checkpoint_file, find_run

    if is_a_rank(os.environ):
        return
    for which in names:
        if which is not None and (which.startswith(("imagenet1k-", "hf:")) or which.endswith((".pth", ".pt"))):
            continue
        path = checkpoint_file(which)
        if path is None:
            find_run(runs, which)
        elif not path.is_file():
            load_metadata(path)
    if data is not None:
        load_dataset(data)


def suitable(dataset: "Dataset", overrides: "list[Override]", recipe: str | None = None) -> "tuple[Recipe, str | None]":
    """The recipe that `train` would use, and why, if none is named. Raises UsageError if it is invalid."""
    from resnetctl.engine.suitable import suitable_recipe
    from resnetctl.recipe import load_recipe

    if recipe is not None:
        return load_recipe(recipe, overrides=overrides), None
    name, why = suitable_recipe(dataset, overrides)
    return load_recipe(name, overrides=overrides), why
