"""A preset's published results, per epoch if known, and whether a run falls far short of them."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from functools import cache

from resnetctl.recipe import Recipe, differences, load_recipe, may_change, preset_path, recipe_names
from resnetctl.typed_json import decode

IMAGENET_CLASSES = 1000
_IMAGENET_IMAGES = 1_200_000  # 1,281,167, of which some may be in quarantine

# other values of these give about the same result: how it is computed, not what; and the batch, as its rate follows
_ALIKE = {
    "train.epochs",
    "train.global_batch",
    "train.micro_batch",
    "train.sync_bn",
    "train.precision",
    "train.channels_last",
    "train.deterministic",
    "train.seed",
    "train.loss_every",
    "train.running_loss_every",
}

# how many points of top-1 below the published best so far a run may lie at its end, and besides at its beginning, when
# the rate is high and runs differ most: the curves of `fast` differ by up to 8 points in their fifth epoch
_MARGIN, _EARLY_MARGIN = 2.0, 8.0


def published_top1(recipe: Recipe, classes: int, train_images: int) -> tuple[float, ...]:
    """Published top-1, in percent, after each epoch of a run like this one, or only after the last.

    Empty if nothing is published: for data other than ImageNet's, values other than the preset's, or other epochs.
    """
    if classes != IMAGENET_CLASSES or train_images < _IMAGENET_IMAGES or recipe.name not in recipe_names():
        return ()
    changed = (key for key, _, _ in differences(load_recipe(recipe.name), recipe))
    if not all(key in _ALIKE or may_change(key) for key in changed):
        return ()
    return _curves(recipe.name).get(str(recipe.train.epochs), ())


@cache
def _curves(name: str) -> dict[str, tuple[float, ...]]:
    table = tomllib.loads(preset_path(name).read_text(encoding="utf-8")).get("top1", {})
    return decode(dict[str, tuple[float, ...]], table, f"top1 of {name}")


def falls_short(curve: Sequence[float], epochs: int, measured: Sequence[tuple[float, float]]) -> float | None:
    """The published best so far, if the best of a run is far below it; else None.

    `curve`: from `published_top1`, for a run of `epochs`. `measured`: (epochs done, top-1 in percent) of the run, in
    order. Both curves dip occasionally, so the best values so far are compared.
    """
    if not measured or not curve:
        return None
    done = round(measured[-1][0])
    reached = curve[:done] if len(curve) == epochs else curve if done >= epochs else ()
    if not reached:
        return None
    margin = _MARGIN + _EARLY_MARGIN * (1 - done / epochs)
    return max(reached) if max(top1 for _, top1 in measured) < max(reached) - margin else None
