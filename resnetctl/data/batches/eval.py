"""Evaluation batches: every sample once, in index order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from resnetctl.data.batches.batch import Batch, empty_images
from resnetctl.data.batches.loader import IndexBatches
from resnetctl.data.images.decode import centre, decode
from resnetctl.data.index import Index
from resnetctl.errors import DataError
from resnetctl.recipe import DataRecipe, Recipe


@dataclass(frozen=True, kw_only=True)
class EvalView:
    """How evaluation reads a data set."""

    index: Path
    data: DataRecipe
    batch: int
    rank: int = 0
    world_size: int = 1
    fingerprint: str | None = None
    """The expected fingerprint of the index; None: not checked."""


def eval_view(recipe: Recipe, index: Index, batch: int, rank: int = 0, world_size: int = 1) -> EvalView:
    """How the recipe evaluates on `index` in batches of `batch`, for one rank."""
    return EvalView(
        index=index.path,
        fingerprint=index.info.fingerprint,
        data=recipe.data,
        batch=batch,
        rank=rank,
        world_size=world_size,
    )


class EvalBatches(IndexBatches):
    """Batch `item` of the samples in index order; the last one holds the rest."""

    view: EvalView

    def items(self) -> range:
        """The batches of this rank; each batch belongs to exactly one rank."""
        view = self.view
        return range(view.rank, -(-len(self.index) // view.batch), view.world_size)

    def __getitem__(self, item: int) -> Batch:
        view = self.view
        sample = range(item * view.batch, min((item + 1) * view.batch, len(self.index)))
        labels = torch.from_numpy(self.index.label[sample.start : sample.stop].astype(np.int64))
        return read_batch(sample, labels, view.data, lambda i: decode(self.index.read(i)))


def read_batch(
    items: Sequence[int], labels: torch.Tensor, data: DataRecipe, read: Callable[[int], torch.Tensor]
) -> Batch:
    """The `[3, H, W] uint8` images that `read` gives, resized and cropped; unreadable ones black, with the label -1."""
    images, unreadable = empty_images(len(items), data.val_size), []
    for n, i in enumerate(items):
        try:
            images[n] = centre(read(i), data.val_resize, data.val_size, data.interpolation)
        except DataError:
            images[n], labels[n] = 0, -1
            unreadable.append(i)
    return Batch(images, labels, torch.tensor(unreadable, dtype=torch.int64))
