"""A run's figures as text, the same in the terminal and on the page."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from resnetctl.recipe import keys, value_of
from resnetctl.units import duration, size

if TYPE_CHECKING:
    from resnetctl.runs.metrics import Measured
    from resnetctl.runs.summary import Summary

NONE = "-"


def figures(s: Summary) -> list[tuple[str, str]]:
    """(label, text), the same labels in the same order for every run."""
    best, last, readings = s.metrics.best, s.last, s.metrics.readings
    recipe, m = s.recipe, s.metadata
    worked = s.metrics.lines[-1].worked if s.metrics.lines else math.nan
    return [
        ("state", s.state or NONE),
        ("recipe", recipe.name if recipe else NONE),
        ("model", recipe.model.arch + " with BlurPool" * recipe.model.blurpool if recipe else NONE),
        ("data", f"{m.data.images:,} train images, {len(m.classes):,} classes" if m else NONE),
        ("epochs", f"{s.epoch:.4g} of {recipe.train.epochs}" if recipe else f"{s.epoch:.4g}"),
        ("best top-1", f"{best.top1:.2f} % after epoch {s.epoch_of(best):.4g}" if best else NONE),
        ("last top-1, top-5", f"{last.top1:.2f} %, {last.top5:.2f} %" if last else NONE),
        ("last val loss", _number(last.loss if last else math.nan)),
        ("last training loss", _number(readings[-1].loss if readings else math.nan)),
        ("training rate", _with_unit(median(r.images_per_second for r in readings), "{:,.0f} img/s")),
        ("waiting for data", _with_unit(100 * median(r.waiting for r in readings), "{:.1f} % of the time")),
        ("time", duration(worked)),
        ("last written", when(s.changed)),
        ("size", size(s.size)),
    ]


def side_by_side(found: Sequence[Summary]) -> list[tuple[str, list[str]]]:
    """Label to one text for each run."""
    columns = [figures(s) for s in found]
    return [(label, [column[n][1] for column in columns]) for n, (label, _) in enumerate(columns[0])]


def differing_values(found: Sequence[Summary]) -> list[tuple[str, list[Any]]]:
    """Each recipe key whose values differ, with the values; None for an unreadable recipe."""
    table: list[tuple[str, list[Any]]] = [("name", [s.recipe.name if s.recipe else None for s in found])]
    table += [(key, [value_of(s.recipe, key) if s.recipe else None for s in found]) for key in keys()]
    return [(key, values) for key, values in table if any(v != values[0] for v in values)]


def median(values: Iterable[float]) -> float:
    """Median of the finite values; NaN without any."""
    return statistics.median([v for v in values if math.isfinite(v)] or [math.nan])


def when(seconds: float) -> str:
    """A local time, `2026-03-01 17:45`."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def percent(measured: Measured | None) -> str:
    """Top-1 of an evaluation."""
    return f"{measured.top1:.2f} %" if measured else NONE


def _number(value: float) -> str:
    return f"{value:.4f}" if math.isfinite(value) else NONE


def _with_unit(value: float, form: str) -> str:
    return form.format(value) if math.isfinite(value) else NONE
