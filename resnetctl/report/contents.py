"""The contents of a report, before it is drawn or written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from resnetctl import __version__
from resnetctl.report.result import spread_samples

if TYPE_CHECKING:
    from resnetctl.runs.summary import Summary
    from resnetctl.suites.outcome import Outcome
    from resnetctl.suites.sheet import Tile

GENERATOR = f"resnetctl {__version__} report"
"""The generator named in the files."""
_SAMPLES, _WORST = 12, 12

Section = tuple[str, str, str] | None
"""(id, heading, HTML); None without content."""


@dataclass(frozen=True, kw_only=True)
class RunPart:
    """A run, and its model's result on the val images."""

    summary: Summary
    outcome: Outcome | None
    why_not: str | None = None
    """Why it was not evaluated."""


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """Images under one heading."""

    title: str
    text: str
    tiles: tuple[Tile, ...]


@dataclass(frozen=True, kw_only=True)
class Contents:
    """The contents of a report."""

    runs: tuple[RunPart, ...]
    seen: tuple[Gallery, ...] = ()
    """What the network sees in training."""

    @property
    def title(self) -> str:
        """The runs' names."""
        return ", ".join(part.summary.name for part in self.runs) or "What the network sees"


def names_of(runs: Sequence[RunPart]) -> list[str]:
    """The runs' names."""
    return [part.summary.name for part in runs]


def measured_of(runs: Sequence[RunPart]) -> list[tuple[int, Outcome]]:
    """The evaluated runs with their numbers; all on the same images, since they share a data set."""
    return [(n, p.outcome) for n, p in enumerate(runs) if p.outcome and p.outcome.index and p.outcome.guesses]


def sample_tiles(runs: Sequence[RunPart], measured: Sequence[tuple[int, Outcome]]) -> list[Tile]:
    """Val images, evenly spread, with each model's guess."""
    from resnetctl.suites.tiles import compared_tiles, guessed_tiles

    index = measured[0][1].index
    assert index
    samples = spread_samples(len(index), _SAMPLES)
    if len(measured) == 1:
        return guessed_tiles(measured[0][1], samples)
    names = [runs[n].summary.name for n, _ in measured]
    return compared_tiles([outcome for _, outcome in measured], names, samples)


def worst_tiles(outcome: Outcome) -> list[Tile]:
    """The model's most confident mistakes."""
    from resnetctl.suites.tiles import guessed_tiles

    assert outcome.guesses
    return guessed_tiles(outcome, outcome.guesses.worst(_WORST))
