"""The data of a report's plots: curves of several runs over epochs and over time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from resnetctl.runs.summary import Summary

Points = tuple[tuple[float, float], ...]

MOST_POINTS = 300
"""Points per curve: more are not visible."""
_UNITS = ((1.0, "seconds"), (60.0, "minutes"), (3600.0, "hours"), (86400.0, "days"))


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One line of a plot."""

    run: int
    """The run's number in the report, from 0, which determines its colour."""
    name: str
    """The quantity, such as "val"; empty if a run has only one curve in this plot."""
    points: Points
    dashed: bool = False
    marked: bool = False
    """With a dot at each point."""


@dataclass(frozen=True, kw_only=True)
class Plot:
    """A plot and its labels."""

    title: str
    x_name: str
    y_name: str
    curves: tuple[Curve, ...]
    from_zero: bool = False
    """The vertical axis begins at 0."""

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to draw."""
        return not any(curve.points for curve in self.curves)


def over_epochs(found: Sequence[Summary]) -> list[Plot]:
    """Loss, top-1 and top-5, learning rate, img/s and waiting of each run."""
    return _plots(found, "epoch", "epoch", 1.0)


def over_time(found: Sequence[Summary]) -> list[Plot]:
    """The same over the runs' working time, without the time between a stop and a resume."""
    longest = max((line.worked for s in found for line in s.metrics.lines if math.isfinite(line.worked)), default=0.0)
    seconds, unit = next(((s, u) for s, u in reversed(_UNITS) if longest >= 2 * s), _UNITS[0])
    return _plots(found, "worked", unit, seconds)


def _plots(found: Sequence[Summary], attribute: str, x_name: str, scale: float) -> list[Plot]:
    def trained(value: str, factor: float = 1.0, name: str = "") -> list[Curve]:
        return [
            Curve(run=n, name=name, points=_points(s.metrics.readings, attribute, value, scale, factor))
            for n, s in enumerate(found)
        ]

    def measured(value: str, name: str, dashed: bool = False) -> list[Curve]:
        return [
            Curve(
                run=n,
                name=name,
                points=_points(s.metrics.evaluations, attribute, value, scale),
                dashed=dashed,
                marked=len(s.metrics.evaluations) <= 40,
            )
            for n, s in enumerate(found)
        ]

    def plot(title: str, y_name: str, *curves: list[Curve], from_zero: bool = False) -> Plot:
        flat = tuple(curve for group in curves for curve in group)
        return Plot(title=title, x_name=x_name, y_name=y_name, curves=flat, from_zero=from_zero)

    thin = [replace(curve, dashed=True) for curve in trained("loss", name="training")]
    return [
        plot("Loss", "loss", thin, measured("loss", "val")),
        plot("Accuracy on val", "% right", measured("top1", "top-1"), measured("top5", "top-5", dashed=True)),
        plot("Learning rate", "rate", trained("lr"), from_zero=True),
        plot("Speed of training", "img/s", trained("images_per_second"), from_zero=True),
        plot("Waiting for data", "% of the time", trained("waiting", 100.0), from_zero=True),
    ]


def _points(lines: Sequence[object], x: str, y: str, scale: float, factor: float = 1.0) -> Points:
    found = [(getattr(line, x) / scale, factor * getattr(line, y)) for line in lines]
    return thinned([p for p in found if all(map(math.isfinite, p))], MOST_POINTS)


def thinned(points: Sequence[tuple[float, float]], most: int) -> Points:
    """At most `most` points, each the mean of equally many neighbours if there are more."""
    each = -(-len(points) // most)
    if each <= 1:
        return tuple(points)
    parts = [points[at : at + each] for at in range(0, len(points), each)]
    return tuple((sum(x for x, _ in p) / len(p), sum(y for _, y in p) / len(p)) for p in parts)
