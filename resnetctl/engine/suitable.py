"""The default recipe for a data set, without importing torch."""

from __future__ import annotations

from collections.abc import Sequence

from resnetctl.data.dataset import Dataset
from resnetctl.errors import printable
from resnetctl.recipe import Override

IMAGENET_SIZED = 100_000
"""Train images from which `fast` is the default recipe."""


FEW = 20_000
"""Train images below which training from scratch deserves a remark."""


def suitable_recipe(dataset: Dataset, overrides: Sequence[Override] = ()) -> tuple[str, str]:
    """The recipe for a data set if none is named, and why.

    Starting weights among `overrides` select `finetune`.
    """
    if any(o.key == "model.weights" and o.value != "none" for o in overrides):
        return "finetune", "starting weights are given"
    if dataset.recipe:
        return dataset.recipe, f"the data set {printable(dataset.name)} names it in its dataset.json"
    if dataset.train_images >= IMAGENET_SIZED:
        return "fast", f"{dataset.train_images:,} train images are {IMAGENET_SIZED:,} or more"
    why = f"{dataset.train_images:,} train images are fewer than {IMAGENET_SIZED:,}"
    if dataset.train_images < FEW:
        why += "; from scratch that will not get far: --weights imagenet1k-v2 takes finetune and ImageNet's weights"
    return "small", why
