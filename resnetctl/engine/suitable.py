"""The recipe for those who name none; torch is not needed to know it."""

from __future__ import annotations

from resnetctl.data.dataset import Dataset
from resnetctl.errors import printable

IMAGENET_SIZED = 100_000
"""Train images from which on `fast` is the recipe where nothing else says which."""


def suitable_recipe(dataset: Dataset) -> tuple[str, str]:
    """The recipe to train a data set with where none is named, and why."""
    if dataset.recipe:
        return dataset.recipe, f"the data set {printable(dataset.name)} names it in its dataset.json"
    if dataset.train_images >= IMAGENET_SIZED:
        return "fast", f"{dataset.train_images:,} train images are {IMAGENET_SIZED:,} or more"
    return "small", f"{dataset.train_images:,} train images are fewer than {IMAGENET_SIZED:,}"
