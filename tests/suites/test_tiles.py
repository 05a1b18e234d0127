"""What is written below the images that a model has guessed."""

from dataclasses import replace

import numpy as np
import pytest

from resnetctl.data.index import Index
from resnetctl.suites.guesses import Guesses
from resnetctl.suites.outcome import Outcome
from resnetctl.suites.tiles import compared_tiles, guessed_tiles, unique_names
from tests.fixtures.small_index import pictures, write_index


@pytest.fixture
def outcome(tmp_path) -> Outcome:
    """Right, wrong with the class among the guesses, wrong without it, and an image that cannot be read."""
    index = Index(write_index(tmp_path, pictures(2, 1) | {"class2/a.jpg": b"", "class3/b.jpg": b""}, split="val"))
    guesses = Guesses(
        truth=np.arange(4),
        labels=np.array([[0, 1], [2, 1], [0, 1], [-1, -1]]),
        probabilities=np.array([[0.9, 0.05], [0.6, 0.25], [0.5, 0.3], [0.0, 0.0]], np.float32),
    )
    return Outcome(model="first", suite="val", images=4, correct1=1, index=index, guesses=guesses)


def test_a_wrong_guess_is_followed_by_the_class(outcome):
    tiles = guessed_tiles(outcome, range(4))
    assert [[(line.text, line.mood) for line in tile.lines] for tile in tiles] == [
        [("90.0 %  class0", "good")],
        [("60.0 %  class2", "bad"), ("25.0 %  class1", "good")],
        [("50.0 %  class0", "bad"), ("is class2", "good")],
        [("cannot be read", "bad"), ("is class3", "good")],
    ]
    assert [tile.image is None for tile in tiles] == [False, False, True, True]
    assert [tile.heading for tile in tiles[2:]] == ["a.jpg", "b.jpg"]


def test_models_are_compared_below_one_image(outcome):
    (tile,) = compared_tiles([outcome, outcome], ["first", "second"], [1])
    assert tile.heading == "class1"
    assert [line.text for line in tile.lines] == ["first: 60.0 %  class2", "second: 60.0 %  class2"]


def test_classes_of_the_same_name_are_told_apart(outcome):
    index = outcome.index
    index.info = replace(index.info, class_names=("crane", "crane", "tench", "goldfish"))
    assert unique_names(index) == ["crane (class0)", "crane (class1)", "tench", "goldfish"]
