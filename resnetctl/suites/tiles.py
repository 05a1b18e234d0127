"""Tiles of a contact sheet or page: images of a data set with a model's guesses."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from resnetctl.data.images.decode import decode
from resnetctl.data.index import Index
from resnetctl.errors import DataError
from resnetctl.suites.guesses import Guesses
from resnetctl.suites.outcome import Outcome
from resnetctl.suites.sheet import Line, Tile


def unique_names(index: Index) -> list[str]:
    """Readable class names, with the class itself added if two are equal."""
    info = index.info
    return [
        name if info.class_names.count(name) == 1 else f"{name} ({c})"
        for c, name in zip(info.classes, info.class_names, strict=True)
    ]


def guessed_tiles(outcome: Outcome, samples: Sequence[int]) -> list[Tile]:
    """Each of `samples` with the model's first guess and, if that is wrong, the true class below."""
    index, guesses, names, tiles = *_known(outcome), []
    for i in samples:
        label, right = int(guesses.truth[i]), guesses.labels[i] == guesses.truth[i]
        own = float(guesses.probabilities[i][right].sum())
        lines = [_guess(guesses, i, names)]
        if not guesses.correct[i]:
            lines.append(
                Line(f"{100 * own:.1f} %  {names[label]}" if right.any() else f"is {names[label]}", own, "good")
            )
        tiles.append(Tile(_image(index, i), index.name(i).rpartition("/")[2], tuple(lines)))
    return tiles


def compared_tiles(outcomes: Sequence[Outcome], titles: Sequence[str], samples: Sequence[int]) -> list[Tile]:
    """Each of `samples` with its class as the heading and a line for each model."""
    index, _, names = _known(outcomes[0])
    tiles = []
    for i in samples:
        found = [_guess(_known(outcome)[1], i, names) for outcome in outcomes]
        lines = tuple(line._replace(text=f"{title}: {line.text}") for title, line in zip(titles, found, strict=True))
        tiles.append(Tile(_image(index, i), names[int(index.label[i])], lines))
    return tiles


def _known(outcome: Outcome) -> tuple[Index, Guesses, list[str]]:
    assert outcome.index
    assert outcome.guesses
    return outcome.index, outcome.guesses, unique_names(outcome.index)


def _guess(guesses: Guesses, i: int, names: Sequence[str]) -> Line:
    """The first guess for image `i`."""
    guess, share = int(guesses.labels[i, 0]), float(guesses.probabilities[i, 0])
    if guess < 0:
        return Line("cannot be read", 0.0, "bad")
    return Line(f"{100 * share:.1f} %  {names[guess]}", share, "good" if guess == guesses.truth[i] else "bad")


def _image(index: Index, i: int) -> np.ndarray | None:
    try:
        image: np.ndarray = decode(index.read(i)).permute(1, 2, 0).numpy()
    except DataError:
        return None
    return image
