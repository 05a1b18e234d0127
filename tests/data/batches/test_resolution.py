from typing import Any

import numpy as np
import pytest

from resnetctl.data.batches.resolution import size_at, sizes_of_run, train_size
from resnetctl.recipe import DataRecipe, TrainRecipe, load_recipe, parse_set


def published_size(epoch: int, first: int, last: int, low: int, high: int) -> int:
    """The rule of train_imagenet.py of ffcv-imagenet, with its ramp in epochs."""
    if epoch <= first:
        return low
    if epoch >= last:
        return high
    return int(np.round(np.interp(epoch, [first, last], [low, high]) / 32)) * 32


@pytest.mark.parametrize(
    ("epochs", "first", "last", "reached"),
    [(16, 11, 13, 12), (24, 17, 20, 19), (32, 23, 27, 25), (40, 29, 34, 32), (56, 41, 48, 45), (88, 65, 76, 71)],
)
def test_fast_grows_as_published_for_any_number_of_epochs(epochs: int, first: int, last: int, reached: int) -> None:
    recipe = load_recipe("fast", overrides=[parse_set(f"train.epochs={epochs}")])
    sizes = [train_size(epoch, recipe.data, recipe.train) for epoch in range(epochs)]
    assert sizes == [published_size(epoch, first, last, 160, 192) for epoch in range(epochs)]
    assert sizes.index(192) == reached
    wide = DataRecipe(train_size=224, train_size_start=128, train_size_ramp=(first / epochs, last / epochs))
    sizes = [train_size(epoch, wide, recipe.train) for epoch in range(epochs)]
    assert sizes == [published_size(epoch, first, last, 128, 224) for epoch in range(epochs)]


def view(epochs: int, **values: Any) -> tuple[DataRecipe, TrainRecipe]:
    return DataRecipe(**values), TrainRecipe(epochs=epochs, global_batch=8)


def test_a_run_shorter_than_the_ramps_shift_has_the_final_resolution() -> None:
    recipe = load_recipe("fast", overrides=[parse_set("train.epochs=1")])
    assert sizes_of_run(recipe.data, recipe.train) == [192]


def test_the_resolution_is_constant_without_a_start() -> None:
    assert sizes_of_run(*view(18, train_size=192)) == [192]
    assert sizes_of_run(*view(18, train_size=192, train_size_start=192)) == [192]


def test_between_the_ends_it_is_a_multiple() -> None:
    data, train = view(100, train_size=224, train_size_start=100, train_size_ramp=(0.0, 1.0))
    assert {train_size(epoch, data, train) for epoch in range(101)} == {100, 128, 160, 192, 224}
    data, train = view(36, train_size=176, train_size_start=88, train_size_ramp=(0.4, 0.8), train_size_multiple=4)
    # Composer's: round(176 × scale / 4) × 4 with a scale from 0.5 at 40 % to 1 at 80 % of the run
    scales = np.interp(np.arange(36) / 36, [0.4, 0.8], [0.5, 1.0])
    assert [train_size(epoch, data, train) for epoch in range(36)] == [round(176 * s / 4) * 4 for s in scales.tolist()]


def test_a_step_has_the_resolution_of_the_epoch_in_which_it_begins() -> None:
    data, train = view(4, train_size=64, train_size_start=32, train_size_ramp=(0.5, 0.5))
    # 20 images, 8 a step: epoch 3, the first after the ramp, begins with image 60 within step 7
    assert [size_at(step, 20, data, train) for step in range(10)] == [32] * 8 + [64] * 2
