"""A run's metrics.jsonl: every reading of the loss and every evaluation, with the run's own time."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Reading:
    """A reading of the training loss. Numbers missing from the file are NaN."""

    step: int
    epoch: float
    loss: float
    """Mean since the last reading."""
    lr: float
    images_per_second: float
    waiting: float
    """Share of the time spent waiting for data, 0 to 1."""
    time: float
    """Seconds since 1970."""
    worked: float = math.nan
    """Seconds of training and evaluation, excluding time between a stop and its resume."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """An evaluation on val. Numbers missing from the file are NaN."""

    step: int
    epoch: float
    top1: float
    """Percent."""
    top5: float
    loss: float
    images: int
    seconds: float
    time: float
    worked: float = math.nan


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """All metrics of a run, in step order."""

    readings: tuple[Reading, ...]
    evaluations: tuple[Measured, ...]

    @property
    def best(self) -> Measured | None:
        """The evaluation with the highest top-1, the latest of equal ones."""
        return max(self.evaluations, key=lambda e: (e.top1, e.step), default=None)

    @property
    def lines(self) -> list[Reading | Measured]:
        """Both kinds in the order written: at the same step the reading comes first."""
        return sorted([*self.readings, *self.evaluations], key=lambda line: (line.step, isinstance(line, Measured)))


def read_metrics(path: Path, global_batch: int) -> Metrics:
    """The lines of `path`; none if there is no file. What is no whole line of a kind we know is left out.

    `global_batch` gives the time that lies between two readings, from their rate in img/s.
    """
    readings: list[Reading] = []
    evaluations: list[Measured] = []
    for entry in entries(path):
        try:
            if entry["kind"] == "train":
                readings.append(_reading(entry))
            elif entry["kind"] == "eval":
                evaluations.append(_measured(entry))
        except (KeyError, TypeError, ValueError, OverflowError):
            continue  # a killed writer's partial line
    return _timed(Metrics(readings=tuple(readings), evaluations=tuple(evaluations)), global_batch)


def entries(path: Path) -> Iterator[dict[str, Any]]:
    """The complete objects of a metrics.jsonl; none without a file."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return
    for line in text.splitlines():
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(entry, dict):
            yield entry


def _reading(entry: dict[str, Any]) -> Reading:
    return Reading(
        step=int(entry["step"]),
        epoch=float(entry["epoch"]),
        loss=_number(entry, "loss"),
        lr=_number(entry, "lr"),
        images_per_second=_number(entry, "images_per_second"),
        waiting=_number(entry, "waiting"),
        time=_number(entry, "time"),
    )


def _measured(entry: dict[str, Any]) -> Measured:
    return Measured(
        step=int(entry["step"]),
        epoch=float(entry["epoch"]),
        top1=float(entry["top1"]),
        top5=float(entry["top5"]),
        loss=_number(entry, "loss"),
        images=int(entry["images"]),
        seconds=_number(entry, "seconds"),
        time=_number(entry, "time"),
    )


def _number(entry: dict[str, Any], name: str) -> float:
    value = entry.get(name)
    return math.nan if value is None else float(value)


def _timed(metrics: Metrics, global_batch: int) -> Metrics:
    """`metrics` with `worked` filled in, as far as the rates are known."""
    readings: list[Reading] = []
    evaluations: list[Measured] = []
    seconds, step = 0.0, 0
    for line in metrics.lines:
        if isinstance(line, Reading):
            rate = line.images_per_second
            seconds += (line.step - step) * global_batch / rate if rate > 0 else math.nan
            step = line.step
            readings.append(replace(line, worked=seconds))
        else:
            seconds += line.seconds
            evaluations.append(replace(line, worked=seconds))
    return Metrics(readings=tuple(readings), evaluations=tuple(evaluations))
