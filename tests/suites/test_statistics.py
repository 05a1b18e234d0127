"""Intervals and tests against scipy's and statsmodels' values, tables against counts made by hand."""

import math

import numpy as np
import pytest
from scipy.stats import binomtest
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar
from statsmodels.stats.proportion import proportion_confint

from resnetctl.suites.statistics import (
    EXACT_BELOW,
    Bin,
    ClassAccuracy,
    Confusion,
    calibration_error,
    confusions,
    mcnemar,
    per_class,
    reliability,
    wilson_interval,
)


@pytest.mark.parametrize(
    ("correct", "images"), [(0, 1), (1, 1), (0, 500), (500, 500), (422, 500), (38_065, 50_000), (1, 50_000)]
)
def test_the_interval_is_scipys_and_statsmodels(correct, images):
    ours = wilson_interval(correct, images)
    scipys = binomtest(correct, images).proportion_ci(0.95, method="wilson")
    assert ours == pytest.approx((100 * scipys.low, 100 * scipys.high), abs=1e-9)
    statsmodels = proportion_confint(correct, images, 0.05, "wilson")
    assert ours == pytest.approx([100 * x for x in statsmodels], abs=1e-9)
    assert 0 <= ours[0] <= 100 * correct / images <= ours[1] <= 100


def test_the_interval_of_imagenets_val_set_is_a_fraction_of_a_percent():
    low, high = wilson_interval(38_065, 50_000)
    assert low < 76.13 < high
    assert math.isclose(high - low, 0.747, abs_tol=0.01)


def answers(both: int, only_first: int, only_second: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    counts = (both, only_first, only_second, neither)
    return np.repeat([True, True, False, False], counts), np.repeat([True, False, True, False], counts)


TABLES = [
    (50, 0, 0, 10),
    (50, 1, 0, 0),
    (3, 7, 2, 9),
    (100, 12, 12, 5),
    (100, 24, 0, 5),
    (100, 13, 12, 5),
    (100, 25, 0, 5),
    (30_000, 1_200, 900, 17_900),
    (38_000, 500, 501, 10_999),
]


@pytest.mark.parametrize("table", TABLES)
def test_mcnemar_is_statsmodels(table):
    both, b, c, neither = table
    found = mcnemar(*answers(*table))
    theirs = statsmodels_mcnemar([[both, b], [c, neither]], exact=b + c < EXACT_BELOW, correction=True)
    assert found.p_value == pytest.approx(min(1.0, theirs.pvalue), rel=1e-9)
    assert (found.only_first, found.only_second, found.exact) == (b, c, b + c < EXACT_BELOW)
    assert found.difference == pytest.approx(100 * (b - c) / sum(table))


def test_the_exact_one_is_scipys_binomial_test():
    found = mcnemar(*answers(3, 7, 2, 9))
    assert found.exact
    assert found.p_value == pytest.approx(binomtest(2, 9, 0.5).pvalue, rel=1e-12)


def test_the_interval_of_the_difference_by_hand():
    found = mcnemar(*answers(60, 20, 10, 10))
    # difference 0.1, variance (0.3 - 0.01) / 100
    half = 1.959964 * math.sqrt(0.29 / 100)
    assert found.interval == pytest.approx((10 - 100 * half, 10 + 100 * half), abs=1e-4)


def test_two_models_that_agree_differ_in_nothing():
    found = mcnemar(*answers(5, 0, 0, 5))
    assert (found.p_value, found.difference, found.interval) == (1.0, 0.0, (0.0, 0.0))


def test_reliability_by_hand():
    probability = np.array([0.1, 0.2, 0.35, 0.5, 0.51, 0.9, 1.0, 0.0])
    correct = np.array([False, False, True, False, True, True, True, False])
    bins = reliability(probability, correct, bins=2)
    # (0, 0.5]: 0.1 0.2 0.35 0.5 and 0.0; (0.5, 1]: 0.51 0.9 1.0
    assert [b[:3] for b in bins] == [(0.0, 0.5, 5), (0.5, 1.0, 3)]
    assert bins[0][3:] == pytest.approx((1.15 / 5, 1 / 5))
    assert bins[1][3:] == pytest.approx((2.41 / 3, 1.0))
    assert calibration_error(bins) == pytest.approx(5 / 8 * abs(0.2 - 0.23) + 3 / 8 * abs(1 - 2.41 / 3))


def test_a_model_that_knows_how_sure_it_may_be():
    rng = np.random.default_rng(0)
    probability = rng.uniform(0, 1, 200_000)
    correct = rng.uniform(0, 1, 200_000) < probability
    bins = reliability(probability, correct)
    assert len(bins) == 15
    assert calibration_error(bins) < 0.01
    assert calibration_error(reliability(np.full(1000, 0.9), np.zeros(1000, bool))) == pytest.approx(0.9)


def test_empty_bins_are_left_out():
    assert reliability(np.array([0.99]), np.array([True])) == [Bin(14 / 15, 1.0, 1, 0.99, 1.0)]
    assert calibration_error([]) == 0.0


LABELS = np.array([0, 0, 0, 2, 2, 2, 2, 3])
GUESSES = np.array([[0, 1], [1, 0], [1, 2], [3, 2], [3, 1], [0, 3], [2, 3], [-1, -1]])


def test_per_class_by_hand():
    assert per_class(LABELS, LABELS[:, None] == GUESSES, 5) == [
        ClassAccuracy(0, 3, 1, 2),
        ClassAccuracy(2, 4, 1, 2),
        ClassAccuracy(3, 1, 0, 0),
    ]


def test_confusions_by_hand():
    expected = [Confusion(0, 1, 2, 3), Confusion(2, 3, 2, 4), Confusion(2, 0, 1, 4)]
    assert confusions(LABELS, GUESSES[:, 0], 10) == expected
    assert confusions(LABELS, GUESSES[:, 0], 1) == expected[:1]


def test_no_mistakes_are_no_confusions():
    assert confusions(LABELS, LABELS, 10) == []
    assert confusions(LABELS[:0], LABELS[:0], 10) == []
