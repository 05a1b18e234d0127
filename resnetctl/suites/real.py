"""ReaL: all the labels that annotators accepted for each val image of ImageNet.

Beyer et al., "Are we done with ImageNet?", arXiv:2006.07159. `real.json` is a list of 50,000 lists of labels in the
order of the val images; 46,837 are not empty, and the images of empty ones do not count.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

from resnetctl.data.imagenet import CLASSES
from resnetctl.errors import DataError, printable

_LEAST_AGREEMENT = 0.5  # the published file agrees with 90 % of the labels


class RealResult(NamedTuple):
    """Results by ReaL's labels."""

    correct1: int
    correct5: int
    images: int
    """With a label."""
    skipped: int
    """Without a label."""


def read_real(path: Path) -> list[tuple[int, ...]]:
    """The labels of val image 1, 2, …. Raises DataError if the file is not a list of lists of labels."""
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"cannot read {printable(path)}: {error.strerror}", hint="--suite real=FILE") from error
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{printable(path)} is not JSON: {printable(error)}", hint="ReaL's file is real.json"
        ) from error
    if not isinstance(content, list) or not all(isinstance(labels, list) for labels in content):
        raise DataError(f"{printable(path)} is not a list of lists", hint="ReaL's file is real.json")
    for number, labels in enumerate(content, 1):
        if not all(type(label) is int and 0 <= label < CLASSES for label in labels):
            raise DataError(f"{printable(path)}: the entries of image {number:,} are not labels from 0 to 999")
    return [tuple(labels) for labels in content]


def measure_real(
    labels: list[tuple[int, ...]], numbers: np.ndarray, own: np.ndarray, guesses: np.ndarray
) -> RealResult:
    """Count the images with a ReaL label that is the first guess, or among the guesses.

    `numbers [N]` are the val images' numbers, from 1; `own [N]` their ImageNet labels; `guesses [N, K]` ImageNet
    labels, best first, and -1 for an unreadable image. Raises DataError if the file has fewer images, or its labels do
    not match the images.
    """
    if len(numbers) and numbers.max() > len(labels):
        raise DataError(
            f"ReaL's file has labels for {len(labels):,} images, but val has image {numbers.max():,}",
            hint="is it complete? real.json has 50,000 lists",
        )
    lists = [labels[n - 1] for n in numbers.tolist()]
    labelled = [i for i, real in enumerate(lists) if real]
    agreeing = sum(int(own[i]) in lists[i] for i in labelled)
    if agreeing < _LEAST_AGREEMENT * len(labelled):
        raise DataError(
            f"ReaL's labels agree with only {agreeing:,} of {len(labelled):,} labels of the val images",
            hint="its lists must follow the order of the val images, and its labels that of the sorted wnids",
        )
    correct1 = sum(int(guesses[i, 0]) in lists[i] for i in labelled)
    correct5 = sum(not set(lists[i]).isdisjoint(guesses[i].tolist()) for i in labelled)
    return RealResult(correct1, correct5, len(labelled), len(lists) - len(labelled))
