"""Sets up a run before its first step: folder and lock, recipe, data, and starting point."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from resnetctl.data.dataset import Dataset, load_dataset, quarantined_samples
from resnetctl.data.index import Index
from resnetctl.data.missing import missing_source
from resnetctl.distributed.group import ALONE, Group
from resnetctl.engine.device import limit_compile_processes, rank_device
from resnetctl.engine.run_choice import RunChoice
from resnetctl.errors import DataError, counted, some
from resnetctl.hardware import default_workers, share_of, usable
from resnetctl.recipe import Override, Recipe
from resnetctl.runs.checkpoint import Checkpoint
from resnetctl.runs.folder import Run, point_latest
from resnetctl.unused_gpu import unused_gpu


@dataclass(frozen=True, kw_only=True)
class TrainRequest:
    """The command line's request."""

    data: Path
    runs: Path
    device: str
    resume: bool
    which: str | None
    """With `resume`: a run's name or folder, or a checkpoint file; None: the latest run."""
    name: str | None
    recipe: str | None
    """None: the one that suits the data set, or the resumed run's."""
    overrides: list[Override]
    allow_changes: bool


@dataclass(frozen=True, kw_only=True)
class RunSetup:
    """What to train, on which data, and from where: everything a rank needs."""

    run: Run
    recipe: Recipe
    train: Index
    val: Index | None
    device: torch.device
    workers: int
    start: Checkpoint | None = None
    """The checkpoint to resume from; None for a new run."""
    group: Group = ALONE
    """The ranks that train together; only the first writes into the run's folder."""
    begun: Callable[[], None] = lambda: None
    """To be called when everything is built: from then on the run's folder stays, and `latest` points to it."""
    listeners: list[Callable[[dict[str, Any]], None]] = field(default_factory=list)
    """Further receivers of the metrics' lines, on the first rank."""

    def log(self, line: dict[str, Any]) -> None:
        """Append a line to the run's metrics, on the first rank."""
        if self.group.is_first:
            self.run.log(line)
            for listener in self.listeners:
                listener(line)


@contextmanager
def set_up(
    request: TrainRequest, group: Group, notice: Callable[[str], None], warn: Callable[[str], None]
) -> Iterator[RunSetup]:
    """The run that `request` asks for, locked while inside; every rank of `group` must call this.

    The first rank decides. New files are removed if the run ends before it has begun. Raises ResnetctlError if the
    request cannot be met.
    """
    dataset = _same_dataset(request.data, group)
    device = rank_device(request.device, group.world.local_rank, group.world.local_size)
    unused = unused_gpu(torch.version.cuda) if request.device == "auto" and device.type == "cpu" else None
    if group.is_first and unused is not None:
        warn(unused)
    # on several nodes any may have the first rank after a restart, and not all of them count it
    again = group.all_max([group.world.restarts])[0] > 0
    launches = group.all_gather(group.world.launch) if again else []
    with ExitStack() as lock, ExitStack() as undo:
        run, recipe, start = None, None, None
        if group.is_first:
            choice = RunChoice(request, dataset, device, group, lock, undo, notice, warn)
            run, recipe, start = choice.decide(launches)
        run, recipe = group.broadcast((run, recipe))
        start = _broadcast_checkpoint(group, start)
        if group.is_first:
            for split, count in dataset.quarantined.items():
                names = some(quarantined_samples(dataset, split))
                warn(f"{counted(count, f'{split} image')} in quarantine, left out: {names}")

        def begun() -> None:
            undo.pop_all()
            if group.is_first:
                point_latest(run.folder.parent, run)

        workers = recipe.data.workers
        cores = share_of(usable(), group.all_gather(usable()))
        limit_compile_processes(cores)
        yield RunSetup(
            run=run,
            recipe=recipe,
            train=dataset.train(),
            val=dataset.val() if dataset.val_images else None,
            device=device,
            workers=workers if workers >= 0 else default_workers(device.type, cores),
            start=start,
            group=group,
            begun=begun,
        )


def _same_dataset(root: Path, group: Group) -> Dataset:
    """The data set in `root`; DataError if its images are gone, or it differs from the first rank's."""
    dataset = load_dataset(root)
    for split in dataset.fingerprints:
        if gone := missing_source(dataset.open(split)):
            raise gone
    fingerprint = dataset.train().info.fingerprint
    if group.broadcast(fingerprint) != fingerprint:
        raise DataError("this rank's data root holds a different data set from the first rank's")
    return dataset


def _broadcast_checkpoint(group: Group, start: Checkpoint | None) -> Checkpoint | None:
    """The first rank's checkpoint, on every rank: the others need no access to the runs' folder."""
    metadata = group.broadcast(None if start is None else start.metadata)
    if metadata is None:
        return None
    return Checkpoint(group.broadcast_tensors({} if start is None else start.tensors), metadata)
