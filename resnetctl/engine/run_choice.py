"""Chooses the run to train: a new one, one to resume, or one restarted by its launcher."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from resnetctl.data.batches.order import total_steps
from resnetctl.data.batches.resolution import sizes_of_run
from resnetctl.data.dataset import Dataset
from resnetctl.data.index import Index
from resnetctl.distributed.group import Group
from resnetctl.engine.device import choose_precision
from resnetctl.engine.micro_batch import choose_micro_batch
from resnetctl.engine.suitable import suitable_recipe
from resnetctl.engine.timeline import Timeline
from resnetctl.errors import DataError, UsageError, counted, printable
from resnetctl.files import folder_lock, sweep_temporary_files, write_atomically
from resnetctl.recipe import Override, Recipe, change_recipe, differences, load_recipe, may_change, recipe_to_toml
from resnetctl.recipe_values import show_value
from resnetctl.runs.checkpoint import Checkpoint
from resnetctl.runs.commits import checkpoint_name, commits
from resnetctl.runs.find import find_resumed, started_before
from resnetctl.runs.folder import Run, create_run, discard_run, refuse_links
from resnetctl.runs.metadata import Metadata
from resnetctl.runs.resume import branch, check_newest, load_start

if TYPE_CHECKING:
    from resnetctl.engine.setup import TrainRequest


TOTAL_STRIDE = 32
"""Image pixels per value of a ResNet's last feature map, along each side."""


@dataclass(frozen=True)
class RunChoice:
    """Decides on the first rank what is trained, and takes the run's lock once, before reading the folder."""

    request: TrainRequest
    dataset: Dataset
    device: torch.device
    group: Group
    lock: ExitStack
    """Holds the run's lock until the training has ended."""
    undo: ExitStack
    """Removes new files if the training fails before its first step."""
    notice: Callable[[str], None]
    warn: Callable[[str], None]

    def decide(self, launches: Sequence[str | None]) -> tuple[Run, Recipe, Checkpoint | None]:
        """The run, locked, its recipe, and the checkpoint to resume from.

        `launches`: the launches of all ranks (see `World.launch`) if this is a restart, which repeats the original
        command line. Raises ResnetctlError if the request cannot be met.
        """
        request = self.request
        before = started_before(request.runs, launches, request.name)
        if before is None and not request.resume:
            return self._new(request.recipe, None)
        run, path = (before, None) if before else find_resumed(request.runs, request.which)
        self._take(run)
        if before and commits(run.checkpoints):
            self.notice(f"started again: continuing {printable(run.folder)}")
        elif before:
            return self._new(request.recipe, run)
        elif path is None and run.is_untouched():
            self.notice(f"{printable(run.folder)} has saved nothing yet: it starts at its beginning")
            return self._new(str(run.recipe), run)
        return self._resumed(run, path)

    def _new(self, name: str | None, run: Run | None) -> tuple[Run, Recipe, None]:
        """A run from its first step; `run` is already locked if it was begun before."""
        if name is None:
            name, why = suitable_recipe(self.dataset, self.request.overrides)
            self.notice(f"recipe {name}: {why}")
        recipe = load_recipe(name, overrides=self.request.overrides)
        check_recipe(recipe, len(self.dataset.train()), self.device, self.group.size)
        if run is None:
            run = create_run(self.request.runs, self.request.name, recipe.name)
            self._take(run)
            self.undo.callback(discard_run, run)
        self._tidy(run)
        run.trim_metrics(0, evaluated=False)
        write_atomically(run.recipe, recipe_to_toml(recipe))
        return run, recipe, None

    def _resumed(self, run: Run, path: Path | None) -> tuple[Run, Recipe, Checkpoint]:
        request = self.request
        start = load_start(run, path, self.warn)
        recipe, changes = resumed_recipe(start.metadata, request.recipe, request.overrides)
        check_data(start.metadata, self.dataset.train())
        check_steps(start.metadata, recipe, len(self.dataset.train()))
        self._remark_edited(run, start.metadata)
        for key, old, new in changes:
            self.notice(f"{key}: {old} → {new}")
        serious = [key for key, _, _ in changes if not may_change(key)]
        if serious and not request.allow_changes:
            raise UsageError(
                f"{', '.join(serious)} would differ from what the run was started with",
                hint="leave the flag out to continue exactly as before, or add --allow-changes",
            )
        step = start.metadata.step
        if step < Timeline(recipe=recipe, images=len(self.dataset.train())).steps:
            file = path or run.checkpoints / checkpoint_name(step)
            self.notice(f"resuming after step {step:,} from {printable(file)}")
        if request.name is not None and request.name != run.name:
            run = branch(request.runs, run, request.name, start, recipe)
            self.undo.callback(discard_run, run)
            self.lock.close()  # that run may go on by itself
            self._take(run)
        elif path is not None:
            check_newest(run, start)
        self._tidy(run)
        if changes:
            write_atomically(run.recipe, recipe_to_toml(recipe))
        return run, recipe, start

    def _remark_edited(self, run: Run, metadata: Metadata) -> None:
        """Warn that an edited recipe.toml has no effect: the checkpoint's recipe is used."""
        try:
            edited = differences(metadata.recipe, load_recipe(str(run.recipe)))
        except UsageError:
            return  # it is only for people
        if edited:
            key, _, value = edited[0]
            self.warn(
                f"{printable(run.recipe)} was edited, which has no effect: the run keeps the recipe of its "
                f"checkpoint; to change a value: --allow-changes --set {key}={show_value(value)}"
            )

    def _take(self, run: Run) -> None:
        """Take exclusive use of the run's folder."""
        refuse_links(run)
        self.lock.enter_context(folder_lock(run.folder, "training"))

    def _tidy(self, run: Run) -> None:
        """Remove a killed writer's files, and record the launch."""
        sweep_temporary_files(run.folder)
        sweep_temporary_files(run.checkpoints)
        run.mark_launch(self.group.world.launch)


def check_recipe(recipe: Recipe, images: int, device: torch.device, ranks: int = 1) -> None:
    """Raise UsageError for problems that would show later, before a run's folder is made."""
    t = recipe.train
    choose_precision(t.precision, device)
    check_norm(recipe, choose_micro_batch(recipe, device, ranks))
    if not total_steps(t.epochs, images, t.global_batch):
        raise UsageError(
            f"{counted(images, 'image')} × {counted(t.epochs, 'epoch')} is less than one batch ({t.global_batch})",
            hint=f"--batch-size {max(2, min(images, t.global_batch) // 2)}, or more --epochs",
        )


def check_norm(recipe: Recipe, micro_batch: int) -> None:
    """Raise UsageError if batch norm would have a single value per channel, hence no variance."""
    smallest = min(sizes_of_run(recipe.data, recipe.train))
    if micro_batch == 1 and smallest <= TOTAL_STRIDE and not recipe.train.freeze_norm:
        raise UsageError(
            f"batch norm cannot train on one image of {smallest} px at a time: its last layers have one value each",
            hint=f"--batch-size 2 or more, or more than {TOTAL_STRIDE} px (--set data.train_size=64)",
        )


def check_steps(metadata: Metadata, recipe: Recipe, images: int) -> None:
    """Raise UsageError if the run is already past the end that the request sets."""
    steps = Timeline(recipe=recipe, images=images).steps
    if steps < metadata.step:
        raise UsageError(
            f"the run has reached step {metadata.step:,}, but --max-steps or --epochs would end it at {steps:,}",
            hint=f"--max-steps {metadata.step + 1} or more, or leave it out",
        )


def resumed_recipe(
    metadata: Metadata, recipe_name: str | None, overrides: list[Override]
) -> tuple[Recipe, list[tuple[str, Any, Any]]]:
    """The checkpoint's recipe with `overrides`, and the changes: `(key, before, after)`."""
    before = metadata.recipe
    if recipe_name is not None and recipe_name != before.name:
        raise UsageError(
            f"this run was started with the recipe {printable(before.name)}, not {printable(recipe_name)}",
            hint="leave --recipe out; to start from its weights: --set model.weights=CHECKPOINT",
        )
    after = change_recipe(before, overrides)
    return after, differences(before, after)


def check_data(was: Metadata, index: Index) -> None:
    """Raise DataError if the train images are not those the run was started on."""
    if was.data.train == index.info.fingerprint:
        return
    if was.classes != index.info.classes:
        what = f"its classes differ ({len(was.classes)} then, {len(index.info.classes)} now)"
    else:
        what = f"it has {len(index):,} train images instead of {was.data.images:,}, or their names or sizes changed"
    if index.quarantined and was.data.train == index.info.whole_fingerprint:
        raise DataError(
            f"verify has quarantined {counted(index.quarantined, 'train image')} since the run was started",
            hint="to continue with them: resnetctl prepare --release-quarantined; or start a new run without "
            "them, from its weights: --set model.weights=CHECKPOINT",
        )
    raise DataError(
        f"this is not the data set that the run was started on: {what}",
        hint="give the right one with --data, or start a new run from its weights: --set model.weights=CHECKPOINT",
    )
