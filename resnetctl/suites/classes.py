"""Maps a model's classes to ImageNet's 1,000, and val images to their numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from resnetctl.data import imagenet
from resnetctl.data.index import Index
from resnetctl.errors import DataError, printable, some


def imagenet_labels(classes: Sequence[str], suite: str) -> np.ndarray:
    """`[C] int64`: ImageNet's label of each class of a model. Raises DataError if one is not ImageNet's."""
    place = {wnid: label for label, wnid in enumerate(imagenet.wnids())}
    foreign = [c for c in classes if c not in place]
    if foreign:
        raise DataError(
            f"the suite {suite} is about ImageNet's classes, but the model knows {some(foreign, 3)}",
            hint="use a model whose classes are ImageNet's wnids, such as --weights imagenet1k-v2",
        )
    return np.array([place[c] for c in classes], np.int64)


def val_numbers(index: Index, suite: str) -> np.ndarray:
    """`[N] int64`: the number of each val image of ImageNet, counted from 1 as in its file's name.

    Raises DataError if an image has a different name.
    """
    numbers = np.empty(len(index), np.int64)
    for i in range(len(index)):
        found = imagenet.VAL_FILE.fullmatch(file_name(index, i))
        if found is None:
            raise DataError(
                f"the suite {suite} is about ImageNet's val images, but {printable(index.name(i))} is not one",
                hint="prepare ImageNet's val images, named ILSVRC2012_val_00000001.JPEG and so on",
            )
        numbers[i] = int(found[1])
    return numbers


def file_name(index: Index, i: int) -> str:
    """The name of sample i without its class."""
    return index.name(i).rpartition("/")[2]
