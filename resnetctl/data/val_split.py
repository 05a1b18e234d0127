"""A val split drawn from the train images, for data sets without one."""

from __future__ import annotations

import hashlib

import numpy as np

from resnetctl.data.batches.order import SPLIT, hashes
from resnetctl.data.index_writer import IndexBuilder
from resnetctl.errors import DataError, printable


def draw_val(
    builder: IndexBuilder, classes: tuple[str, ...], fraction: float, seed: int
) -> tuple[IndexBuilder, IndexBuilder]:
    """Train and val: `fraction` of each class's images, rounded but at least one, go to val.

    The choice depends on the seed and the names alone, so images added later move few others. Raises DataError if a
    class has a single image, which cannot be in both.
    """
    names, labels = [], []
    for name, label in builder.names_and_labels():
        names.append(int.from_bytes(hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8).digest()))
        labels.append(label)
    label_of = np.array(labels, np.int64)
    draws = hashes(seed, SPLIT, 0, np.array(names, np.uint64).view(np.int64))
    counts = np.bincount(label_of, minlength=len(classes))
    single = np.flatnonzero(counts == 1)
    if len(single):
        raise DataError(
            f"{printable(classes[single[0]])} has a single image, which cannot be in both train and val",
            hint="add images to that class, or remove it",
        )
    wanted = np.clip(np.rint(counts * fraction).astype(np.int64), 1, np.maximum(counts - 1, 1))
    by_class = np.lexsort((draws, label_of))
    place = np.arange(len(by_class)) - np.concatenate(([0], np.cumsum(counts)))[label_of[by_class]]
    is_val = np.zeros(len(by_class), bool)
    is_val[by_class] = place < wanted[label_of[by_class]]
    chosen = iter(is_val.tolist())
    return builder.divide(lambda name, label: next(chosen))
