"""Statistics of an evaluation: intervals, tests and tables of correct and wrong predictions."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

Z = 1.959963984540054
"""The 97.5 % quantile of the normal distribution."""
EXACT_BELOW = 25
"""Number of disagreements below which McNemar's test is the exact one."""


def wilson_interval(correct: int, images: int) -> tuple[float, float]:
    """The 95 % interval of a proportion in percent (Wilson 1927, JASA 22:209, formula 1)."""
    p, zz = correct / images, Z * Z / images
    centre, half = p + zz / 2, Z * math.sqrt(p * (1 - p) / images + zz / (4 * images))
    # exact at the ends, where rounding errors would remain
    low = 0.0 if correct == 0 else (centre - half) / (1 + zz)
    high = 1.0 if correct == images else (centre + half) / (1 + zz)
    return 100 * low, 100 * high


class Comparison(NamedTuple):
    """Two models on the same images."""

    only_first: int
    """Images that the first has right and the second wrong."""
    only_second: int
    difference: float
    """Accuracy of the first minus that of the second, in percentage points."""
    interval: tuple[float, float]
    """95 % interval of the difference, in percentage points."""
    p_value: float
    """Probability of a difference at least this large if the two were equally good."""
    exact: bool
    """Whether the p-value is exact binomial; else chi-squared with continuity correction."""


def mcnemar(first: np.ndarray, second: np.ndarray) -> Comparison:
    """Compare `[N] bool` with `[N] bool`: which of the same N images each of two models has right.

    McNemar 1947 (Psychometrika 12:153): the exact two-sided binomial test where they disagree on fewer than EXACT_BELOW
    images, else chi-squared with one degree of freedom and the continuity correction of Edwards 1948 (Psychometrika
    13:185). The interval of the difference is Wald's for paired proportions.
    """
    assert first.shape == second.shape, (first.shape, second.shape)
    assert len(first)
    b, c, n = int((first & ~second).sum()), int((~first & second).sum()), len(first)
    discordant, exact = b + c, b + c < EXACT_BELOW
    if exact:
        tail = sum(math.comb(discordant, k) for k in range(min(b, c) + 1)) / 2**discordant
        p_value = min(1.0, 2 * tail)
    else:
        p_value = math.erfc(math.sqrt(max(0, abs(b - c) - 1) ** 2 / discordant / 2))
    difference = (b - c) / n
    half = Z * math.sqrt(max(0.0, discordant / n - difference**2) / n)
    return Comparison(b, c, 100 * difference, (100 * (difference - half), 100 * (difference + half)), p_value, exact)


class Bin(NamedTuple):
    """The images with probability in (low, high]."""

    low: float
    high: float
    images: int
    confidence: float
    """Mean probability of the predictions, 0 to 1."""
    accuracy: float
    """Share of correct predictions, 0 to 1."""


def reliability(probability: np.ndarray, correct: np.ndarray, bins: int = 15) -> list[Bin]:
    """Bins of equal width that have images, from `[N] float` probabilities of the predicted classes and `[N] bool`."""
    place = np.clip(np.ceil(probability * bins).astype(np.int64) - 1, 0, bins - 1)
    images = np.bincount(place, minlength=bins)
    confidence = np.bincount(place, weights=probability, minlength=bins)
    right = np.bincount(place, weights=correct, minlength=bins)
    return [
        Bin(i / bins, (i + 1) / bins, int(images[i]), confidence[i] / images[i], right[i] / images[i])
        for i in range(bins)
        if images[i]
    ]


def calibration_error(bins: list[Bin]) -> float:
    """The expected calibration error, 0 to 1: |accuracy - confidence| of the bins, weighted by their images.

    Naeini et al. 2015; Guo et al. 2017, arXiv:1706.04599, equation 5, with its 15 bins.
    """
    total = sum(b.images for b in bins)
    return float(sum(b.images * abs(b.accuracy - b.confidence) for b in bins) / total) if total else 0.0


class ClassAccuracy(NamedTuple):
    """Correct predictions for one class."""

    label: int
    images: int
    correct1: int
    correct5: int


def per_class(labels: np.ndarray, hits: np.ndarray, classes: int) -> list[ClassAccuracy]:
    """Counts of each class that has images, from `[N] int64` labels and `[N, K] bool`: whether guess k is right."""
    images = np.bincount(labels, minlength=classes)
    first = np.bincount(labels, weights=hits[:, 0], minlength=classes).astype(np.int64)
    among = np.bincount(labels, weights=hits.any(1), minlength=classes).astype(np.int64)
    return [ClassAccuracy(c, int(images[c]), int(first[c]), int(among[c])) for c in range(classes) if images[c]]


class Confusion(NamedTuple):
    """How often one class was mistaken for another."""

    label: int
    predicted: int
    images: int
    of: int
    """All images of the class `label`."""


def confusions(labels: np.ndarray, predicted: np.ndarray, most: int) -> list[Confusion]:
    """The `most` frequent mistakes, from `[N] int64` labels and predictions (negative: none)."""
    if not len(labels):
        return []
    wrong = (labels != predicted) & (predicted >= 0)
    width = int(max(labels.max(), predicted.max())) + 1
    pairs, counts = np.unique(labels[wrong] * width + predicted[wrong], return_counts=True)
    of = np.bincount(labels, minlength=width)
    order = np.lexsort((pairs, -counts))[:most]
    return [
        Confusion(int(pairs[i] // width), int(pairs[i] % width), int(counts[i]), int(of[pairs[i] // width]))
        for i in order
    ]
