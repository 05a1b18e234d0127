"""What an evaluation found, as a report draws it: small cases worked out by hand."""

from types import SimpleNamespace

import numpy as np

from resnetctl.report.result import MOST_BARS, MOST_CONFUSED, calibration, class_bars, confusion, spread_samples
from resnetctl.suites.guesses import Guesses


def outcome(truth, guess, probability=0.9, names=None):
    classes = tuple(names or [f"c{n:03d}" for n in range(max(truth) + 1)])
    index = SimpleNamespace(info=SimpleNamespace(classes=classes, class_names=classes))
    guesses = Guesses(
        truth=np.array(truth),
        labels=np.array(guess)[:, None],
        probabilities=np.full((len(truth), 1), probability, np.float32),
    )
    return SimpleNamespace(index=index, guesses=guesses)


def test_the_hardest_class_comes_first():
    bars = class_bars([(0, outcome([0, 0, 1, 1, 2, 2], [0, 0, 0, 0, 2, 0], names=("cat", "dog", "eel")))])
    assert bars.labels == ("dog", "eel", "cat")
    (group,) = bars.groups
    assert group.values == (0.0, 50.0, 100.0)
    assert group.low[0] == 0.0
    assert group.high[2] == 100.0
    assert all(low <= v <= high for low, v, high in zip(group.low, group.values, group.high, strict=True))


def test_several_runs_are_sorted_by_their_mean():
    first, second = outcome([0, 0, 1, 1], [0, 0, 0, 1]), outcome([0, 0, 1, 1], [1, 1, 1, 1])
    bars = class_bars([(0, first), (3, second)])
    assert bars.labels == ("c000", "c001")
    assert [(g.run, g.values) for g in bars.groups] == [(0, (100.0, 50.0)), (3, (0.0, 100.0))]


def test_of_many_classes_both_ends_are_shown():
    truth = [n for n in range(100) for _ in range(4)]
    guess = [n if k < n % 5 else (n + 1) % 100 for n in range(100) for k in range(4)]
    bars = class_bars([(0, outcome(truth, guess))])
    assert bars.title == "Top-1 of the hardest and easiest of 100 classes"
    values = bars.groups[0].values
    assert len(values) == MOST_BARS
    assert values == (0.0,) * 15 + (100.0,) * 15


def test_confusion_counts_what_was_taken_for_what():
    matrix = confusion(1, outcome([0, 0, 1, 1, 1], [0, 1, 1, 1, -1]), "m")
    assert (matrix.counts, matrix.totals, matrix.title) == (((1, 1), (0, 2)), (2, 3), "m")


def test_no_mistake_is_no_confusion():
    assert confusion(0, outcome([0, 1], [0, 1]), "m") is None


def test_of_many_classes_those_that_are_mixed_up_most():
    truth = [n for n in range(50) for _ in range(3)]
    guess = [49 if n == 7 else n for n in range(50) for _ in range(3)]
    guess[0] = 1
    matrix = confusion(0, outcome(truth, guess), "m")
    assert matrix.labels == ("c000", "c001", "c007", "c049")
    assert matrix.counts[2] == (0, 0, 0, 3)
    assert matrix.title == "m: 4 of 50 classes"
    everything_wrong = confusion(0, outcome(truth, [(n + 1) % 50 for n in truth]), "m")
    assert len(everything_wrong.labels) == MOST_CONFUSED


def test_calibration():
    found = calibration([(2, outcome([0, 0, 0, 0], [0, 0, 0, 1], 0.95))])
    (curve,) = found.curves
    assert curve.run == 2
    ((sure, right),) = curve.points
    assert (round(sure, 4), right) == (95.0, 75.0)
    assert found.images == ((4,),)
    assert round(found.errors[0], 4) == 20.0


def test_samples_are_spread():
    assert spread_samples(500, 5) == [50, 150, 250, 350, 450]
    assert spread_samples(3, 5) == [0, 1, 2]
