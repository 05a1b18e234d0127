"""A run's metrics.jsonl: every reading of the loss and every evaluation, with the run's own time."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar


@dataclass(frozen=True, kw_only=True)
class Reading:
    """A reading of the training loss. Numbers missing from the file are NaN."""

    step: int
    epoch: float
    loss: float = math.nan
    """Mean since the last reading."""
    lr: float = math.nan
    images_per_second: float = math.nan
    waiting: float = math.nan
    """Share of the time spent waiting for data, 0 to 1."""
    time: float = math.nan
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
    loss: float = math.nan
    images: int
    seconds: float = math.nan
    time: float = math.nan
    worked: float = math.nan


Line = TypeVar("Line", Reading, Measured)
_WHOLE = ("step", "images")


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
                readings.append(_read(Reading, entry))
            elif entry["kind"] == "eval":
                evaluations.append(_read(Measured, entry))
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


def _read(kind: type[Line], entry: dict[str, Any]) -> Line:
    """`entry` as a `kind`. Raises KeyError, TypeError or ValueError if a number that must be there is not."""
    numbers: dict[str, Any] = {}
    for f in fields(kind):
        if f.default is MISSING or entry.get(f.name) is not None:
            numbers[f.name] = (int if f.name in _WHOLE else float)(entry[f.name])
    return kind(**numbers)


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
