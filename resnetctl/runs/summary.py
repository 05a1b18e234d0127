"""Summaries of runs on disk: configuration, progress, results. No tensors are read."""

from __future__ import annotations

import contextlib
import math
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from resnetctl.errors import CheckpointError, UsageError
from resnetctl.files import is_locked
from resnetctl.recipe import Recipe, load_recipe
from resnetctl.runs.commits import commits, load_metadata
from resnetctl.runs.find import runs
from resnetctl.runs.folder import Run
from resnetctl.runs.metadata import Metadata
from resnetctl.runs.metrics import Measured, Metrics, read_metrics


@dataclass(frozen=True, kw_only=True)
class Summary:
    """A run at a glance."""

    run: Run
    state: str | None
    """"running" (a process holds its lock), "complete", "stopped"; None before its first checkpoint."""
    recipe: Recipe | None
    """From its newest checkpoint, or its recipe.toml; None if neither can be read."""
    metadata: Metadata | None
    """Of its newest readable checkpoint."""
    metrics: Metrics
    changed: float
    """Time of the last write: seconds since 1970."""
    size: int
    """Bytes of all its files."""

    @property
    def name(self) -> str:
        """The run's name."""
        return self.run.name

    @property
    def epoch(self) -> float:
        """Epochs done, as far as recorded."""
        m, lines = self.metadata, self.metrics.lines
        return self._epochs(m.step if m else 0, max(lines[-1].epoch if lines else 0.0, m.epoch if m else 0.0))

    def epoch_of(self, evaluation: Measured) -> float:
        """Epochs done when `evaluation` was made."""
        return self._epochs(evaluation.step, evaluation.epoch)

    def _epochs(self, step: int, recorded: float) -> float:
        """`recorded`, but all epochs after the last step, though an incomplete batch was dropped."""
        m = self.metadata
        return float(m.recipe.train.epochs) if m and step >= m.steps else recorded

    @property
    def last(self) -> Measured | None:
        """The newest evaluation."""
        return self.metrics.evaluations[-1] if self.metrics.evaluations else None


def summaries(root: Path) -> list[Summary]:
    """All runs under `root`, most recently modified first."""
    return sorted(map(summarise, runs(root)), key=lambda s: s.changed, reverse=True)


def summarise(run: Run) -> Summary:
    """The summary of `run`, without anything damaged or missing in its folder."""
    running = is_locked(run.folder)
    metadata = _newest_metadata(run)
    recipe = metadata.recipe if metadata else _written_recipe(run)
    metrics = read_metrics(run.metrics, recipe.train.global_batch if recipe else 0)
    if metadata and not metrics.evaluations:
        metrics = Metrics(readings=metrics.readings, evaluations=_history(metadata))
    stats = list(_file_stats(run.folder))
    return Summary(
        run=run,
        state="running" if running else _state(metadata),
        recipe=recipe,
        metadata=metadata,
        metrics=metrics,
        changed=max((s.st_mtime for s in stats), default=0.0),
        size=sum(s.st_size for s in stats),
    )


def _file_stats(folder: Path) -> Iterator[os.stat_result]:
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # a training run deletes old checkpoints
            found = path.lstat()
            if stat.S_ISREG(found.st_mode):
                yield found


def _state(metadata: Metadata | None) -> str | None:
    if metadata is None:
        return None
    steps = min(metadata.steps, metadata.recipe.train.max_steps or metadata.steps)
    return "complete" if metadata.step >= steps else "stopped"


def _newest_metadata(run: Run) -> Metadata | None:
    for commit in commits(run.checkpoints):
        try:
            return load_metadata(commit.path)
        except CheckpointError:
            continue
    return None


def _written_recipe(run: Run) -> Recipe | None:
    try:
        return load_recipe(str(run.recipe))
    except UsageError:
        return None


def _history(metadata: Metadata) -> tuple[Measured, ...]:
    return tuple(
        Measured(
            step=e.step,
            epoch=e.epoch,
            top1=e.top1,
            top5=e.top5,
            loss=math.nan if e.loss is None else e.loss,
            images=e.images,
        )
        for e in metadata.history
    )
