"""Which run a command trains: a new one, one to go on with, or one that was started again by what launched it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch

from resnetctl.data.dataset import Dataset
from resnetctl.distributed.group import Group
from resnetctl.engine.resume import (
    branch,
    check_data,
    check_newest,
    find_resumed,
    load_start,
    resumed_recipe,
    started_before,
)
from resnetctl.engine.train import check_job
from resnetctl.errors import UsageError, printable
from resnetctl.files import folder_lock, sweep_temporary_files, write_atomically
from resnetctl.recipe import Override, Recipe, load_recipe, recipe_to_toml
from resnetctl.runs.checkpoint import Checkpoint, commits
from resnetctl.runs.folder import Run, create_run, discard_run, refuse_links

IMAGENET_SIZED = 100_000
"""Train images from which on `fast` is the recipe where nothing else says which."""

# what may differ from the checkpoint's recipe without changing what is computed
_HARMLESS = (
    "data.workers",
    "data.decoder",
    "data.timeout_seconds",
    "checkpoint.",
    "train.max_steps",
    "train.compile",
    "train.eval_every_epochs",
)


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What the command line asks for."""

    runs: Path
    resume: bool
    which: str | None
    """With `resume`: a run's name or folder, or a checkpoint file; None: the latest run."""
    name: str | None
    recipe: str | None
    """None: what suits the data set, or the resumed run's own."""
    flags: list[Override]
    allow_changes: bool


@dataclass(frozen=True, kw_only=True)
class Beginning:
    """Decides for the first rank what is trained, and takes the run's lock."""

    wish: Wish
    dataset: Dataset
    device: torch.device
    group: Group
    lock: ExitStack
    """Holds the run's lock until the training has ended."""
    undo: ExitStack
    """Removes what was newly made, where the training fails before its first step."""
    notice: Callable[[str], None]
    warn: Callable[[str], None]

    def decide(self, launches: Sequence[str | None]) -> tuple[Run, Recipe, Checkpoint | None]:
        """The run, under its lock, its recipe, and the checkpoint to go on from.

        `launches`: what the ranks' launcher calls its starts (see `World.launch`) where this is not its first one. It
        repeats the command line, which speaks of the first one. Raises ResnetctlError where the wish cannot be met.
        """
        wish = self.wish
        before = started_before(wish.runs, launches, wish.name)
        if before is not None and commits(before.checkpoints):
            self.notice(f"started again: goes on with {printable(before.folder)}")
            return self._resumed(before, None)
        if not wish.resume or before is not None:
            return self._new(wish.recipe, before)
        run, path = find_resumed(wish.runs, wish.which)
        if path is None and run.is_untouched():
            self.notice(f"{printable(run.folder)} has saved nothing yet: it starts at its beginning")
            return self._new(str(run.recipe), run)
        return self._resumed(run, path)

    def _new(self, name: str | None, before: Run | None) -> tuple[Run, Recipe, None]:
        if name is None:
            name, why = suitable_recipe(self.dataset)
            self.notice(f"recipe {name}: {why}")
        recipe = load_recipe(name, overrides=self.wish.flags)
        check_job(recipe, len(self.dataset.train()), self.device, self.group.size)
        run = before or create_run(self.wish.runs, self.wish.name, recipe.name)
        self._open(run)
        if before is None:
            self.undo.callback(discard_run, run)
        run.trim_metrics(0, evaluated=False)
        write_atomically(run.recipe, recipe_to_toml(recipe))
        return run, recipe, None

    def _resumed(self, run: Run, path: Path | None) -> tuple[Run, Recipe, Checkpoint]:
        wish = self.wish
        refuse_links(run)
        with folder_lock(run.folder, "training"):
            start = load_start(run, path, self.warn)
        recipe, changes = resumed_recipe(start, wish.recipe, wish.flags)
        check_data(start, self.dataset.train())
        for key, old, new in changes:
            self.notice(f"{key}: {old} → {new}")
        serious = [key for key, _, _ in changes if not key.startswith(_HARMLESS)]
        if serious and not wish.allow_changes:
            raise UsageError(
                f"{', '.join(serious)} would differ from what the run was started with",
                hint="leave the flag out to go on exactly, or add --allow-changes",
            )
        if wish.name is not None and wish.name != run.name:
            run = branch(wish.runs, run, wish.name, start, recipe)
            self.undo.callback(discard_run, run)
        elif path is not None:
            check_newest(run, start)
        self._open(run)
        return run, recipe, start

    def _open(self, run: Run) -> None:
        """Become the one that writes into the run's folder."""
        refuse_links(run)
        self.lock.enter_context(folder_lock(run.folder, "training"))
        sweep_temporary_files(run.folder)
        sweep_temporary_files(run.checkpoints)
        run.mark_launch(self.group.world.launch)


def suitable_recipe(dataset: Dataset) -> tuple[str, str]:
    """The recipe to train a data set with where none is named, and why."""
    if dataset.recipe:
        return dataset.recipe, f"the data set {printable(dataset.name)} names it in its dataset.json"
    if dataset.train_images >= IMAGENET_SIZED:
        return "fast", f"{dataset.train_images:,} train images are {IMAGENET_SIZED:,} or more"
    return "small", f"{dataset.train_images:,} train images are fewer than {IMAGENET_SIZED:,}"
