"""An evaluation's results for a report: per class, confusion, calibration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from resnetctl.report.curves import Curve

if TYPE_CHECKING:
    from resnetctl.suites.outcome import Outcome

MOST_BARS = 30
MOST_CONFUSED = 20
"""Classes of the matrix."""


@dataclass(frozen=True, kw_only=True)
class BarGroup:
    """One run's bars, with the ends of their 95 % intervals."""

    run: int
    values: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Bars:
    """Bars of percentages from left to right, several runs side by side."""

    title: str
    x_name: str
    labels: tuple[str, ...]
    groups: tuple[BarGroup, ...]


@dataclass(frozen=True, kw_only=True)
class Matrix:
    """Confusion: `counts[row][column]` images of class `row` were mistaken for class `column`."""

    title: str
    run: int
    labels: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    totals: tuple[int, ...]
    """Total images of each class."""
    of: int
    """Total classes."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Accuracy by confidence, in percent."""

    title: str
    curves: tuple[Curve, ...]
    images: tuple[tuple[int, ...], ...]
    """Behind each point of each curve."""
    errors: tuple[float, ...]
    """The expected calibration error of each curve, in percent."""


def class_bars(outcomes: Sequence[tuple[int, Outcome]]) -> Bars:
    """Top-1 of each class, hardest first; of many classes only those at both ends.

    `outcomes` are of the same images, each with its run's number.
    """
    from resnetctl.suites.statistics import per_class, wilson_interval
    from resnetctl.suites.tiles import unique_names

    _, first = outcomes[0]
    assert first.index
    names, found = unique_names(first.index), []
    for _, outcome in outcomes:
        assert outcome.guesses
        found.append(per_class(outcome.guesses.truth, outcome.guesses.hits, len(names)))
    share = [sum(f[n].correct1 / f[n].images for f in found) / len(found) for n in range(len(found[0]))]
    order = sorted(range(len(share)), key=lambda n: (share[n], n))
    title = "Top-1 of each class"
    if len(order) > MOST_BARS:
        title = f"Top-1 of the hardest and easiest of {len(order):,} classes"
        order = order[: MOST_BARS // 2] + order[-MOST_BARS // 2 :]
    groups = []
    for (run, _), f in zip(outcomes, found, strict=True):
        intervals = [wilson_interval(f[n].correct1, f[n].images) for n in order]
        groups.append(
            BarGroup(
                run=run,
                values=tuple(100 * f[n].correct1 / f[n].images for n in order),
                low=tuple(low for low, _ in intervals),
                high=tuple(high for _, high in intervals),
            )
        )
    labels = tuple(names[found[0][n].label] for n in order)
    return Bars(title=title, x_name="% right, with 95 % intervals", labels=labels, groups=tuple(groups))


def confusion(run: int, outcome: Outcome, title: str) -> Matrix | None:
    """The confusion matrix; of many classes, those in the most frequent mistakes. None without mistakes."""
    import numpy as np

    from resnetctl.suites.statistics import confusions
    from resnetctl.suites.tiles import unique_names

    assert outcome.index
    assert outcome.guesses
    names, truth, guess = unique_names(outcome.index), outcome.guesses.truth, outcome.guesses.labels[:, 0]
    shown: list[int] = list(range(len(names)))
    mistakes = confusions(truth, guess, 10 * MOST_CONFUSED)
    if not mistakes:
        return None
    if len(names) > MOST_CONFUSED:
        involved = dict.fromkeys(label for c in mistakes for label in (c.label, c.predicted))
        shown = sorted(list(involved)[:MOST_CONFUSED])
        title += f": {len(shown)} of {len(names):,} classes"
    counts = [tuple(int(((truth == row) & (guess == column)).sum()) for column in shown) for row in shown]
    totals = np.bincount(truth, minlength=len(names))
    return Matrix(
        title=title,
        run=run,
        labels=tuple(names[n] for n in shown),
        counts=tuple(counts),
        totals=tuple(int(totals[n]) for n in shown),
        of=len(names),
    )


def calibration(outcomes: Sequence[tuple[int, Outcome]]) -> Calibration:
    """The reliability diagram of each run."""
    from resnetctl.suites.statistics import calibration_error, reliability

    curves, images, errors = [], [], []
    for run, outcome in outcomes:
        assert outcome.guesses
        bins = reliability(outcome.guesses.probabilities[:, 0], outcome.guesses.correct)
        points = tuple((100 * b.confidence, 100 * b.accuracy) for b in bins)
        curves.append(Curve(run=run, name="", points=points))
        images.append(tuple(b.images for b in bins))
        errors.append(100 * calibration_error(bins))
    return Calibration(title="Calibration", curves=tuple(curves), images=tuple(images), errors=tuple(errors))


def spread_samples(count: int, most: int) -> list[int]:
    """At most `most` of `count` samples, evenly spread: the same ones each time."""
    each = max(1.0, count / most)
    return [int((n + 0.5) * each) for n in range(min(most, count))]
