"""ReaL's labels on six images, counted by hand."""

import json

import numpy as np
import pytest

from resnetctl.errors import DataError
from resnetctl.suites.real import RealResult, measure_real, read_real

#       image 1   2       3   4        5      6
LABELS = [[65], [970, 795], [], [809, 968], [516], []]
NUMBERS = np.array([1, 2, 3, 4, 5, 6])
OWN = np.array([65, 970, 230, 809, 850, 57])
GUESSES = np.array(
    [
        [65, 1, 2, 3, 4],  # right
        [795, 1, 2, 3, 4],  # right, though the one label says 970
        [230, 1, 2, 3, 4],  # has no ReaL label: does not count
        [1, 2, 3, 968, 4],  # among the five
        [850, 1, 2, 3, 4],  # the old label, which people found wrong
        [0, 1, 2, 3, 4],  # has no ReaL label: its wrong answer does not count either
    ]
)


def written(tmp_path, content):
    path = tmp_path / "real.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_the_counts_are_those_made_by_hand(tmp_path):
    labels = read_real(written(tmp_path, LABELS))
    assert measure_real(labels, NUMBERS, OWN, GUESSES) == RealResult(2, 3, 4, 2)


def test_the_number_in_the_name_counts_and_not_the_place(tmp_path):
    """Samples of an index stand by class, the lists by number."""
    labels = read_real(written(tmp_path, LABELS))
    order = [4, 2, 0, 5, 3, 1]
    assert measure_real(labels, NUMBERS[order], OWN[order], GUESSES[order]) == RealResult(2, 3, 4, 2)
    assert measure_real(labels, NUMBERS[[1]], OWN[[1]], GUESSES[[1]]) == RealResult(1, 1, 1, 0)


def test_an_unreadable_image_is_wrong():
    labels = [tuple(x) for x in LABELS]
    guesses = np.full_like(GUESSES, -1)
    assert measure_real(labels, NUMBERS, OWN, guesses) == RealResult(0, 0, 4, 2)


def test_a_list_that_is_too_short_is_refused():
    with pytest.raises(DataError, match="5 images, but val has image 6"):
        measure_real([tuple(x) for x in LABELS[:5]], NUMBERS, OWN, GUESSES)


def test_lists_in_another_order_are_noticed():
    with pytest.raises(DataError, match="agree with only 0 of 4"):
        measure_real([tuple(x) for x in LABELS[3:] + LABELS[:3]], NUMBERS, OWN, GUESSES)


def test_nothing_but_empty_lists_is_no_image():
    assert measure_real([()] * 6, NUMBERS, OWN, GUESSES) == RealResult(0, 0, 0, 6)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "not JSON"),
        ({"labels": []}, "not a list of lists"),
        ([[1], 2], "not a list of lists"),
        ([[1], [1000]], "image 2 are not labels from 0 to 999"),
        ([[1], [True]], "image 2"),
        ([["cat"]], "image 1"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_another_file_is_refused(content, words, tmp_path):
    with pytest.raises(DataError, match=words):
        read_real(written(tmp_path, content))


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(DataError, match="cannot read"):
        read_real(tmp_path / "nothing.json")
