"""Detects wrong labels by a model's predictions."""

from __future__ import annotations

import numpy as np

from resnetctl.suites.statistics import wilson_interval

_SEED = 0


def label_trouble(labels: np.ndarray, predicted: np.ndarray, classes: int) -> str | None:
    """A message on what seems wrong with `[N] int64` labels, given predictions (-1: none); None if nothing.

    Labels in another order: some permutation of the classes makes far more predictions correct, and far more than with
    shuffled labels. Else guessing: 1 / classes lies inside or above the 95 % interval of top-1.
    """
    labels, predicted = labels[predicted >= 0], predicted[predicted >= 0]
    if classes < 2 or not len(labels):
        return None
    correct = int((labels == predicted).sum())
    top1 = correct / len(labels)
    best = _best_permutation(labels, predicted, classes)
    by_chance = _best_permutation(np.random.default_rng(_SEED).permutation(labels), predicted, classes)
    if best >= 2 * top1 and best >= by_chance + (1 - by_chance) / 4:
        return (
            f"the labels are those of other classes: top-1 is {100 * top1:.2f} %, and would be {100 * best:.1f} % "
            "if the classes were in another order (labels by sorted wnid or folder name are expected)"
        )
    if wilson_interval(correct, len(labels))[0] <= 100 / classes:
        return (
            f"top-1 of {100 * top1:.2f} % is no better than guessing among {classes:,} classes: "
            "is the model trained, and are labels, size and normalisation as in training?"
        )
    return None


def _best_permutation(labels: np.ndarray, predicted: np.ndarray, classes: int) -> float:
    """Share of correct predictions after renaming the classes, the most frequent pairs first: a lower bound."""
    pairs, counts = np.unique(labels * classes + predicted, return_counts=True)
    taken_label, taken_prediction = np.zeros(classes, bool), np.zeros(classes, bool)
    right = 0
    for i in np.argsort(-counts, kind="stable"):
        label, prediction = divmod(int(pairs[i]), classes)
        if not taken_label[label] and not taken_prediction[prediction]:
            taken_label[label] = taken_prediction[prediction] = True
            right += int(counts[i])
    return right / len(labels)
