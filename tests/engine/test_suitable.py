"""The recipe for those who name none."""

from dataclasses import replace
from pathlib import Path

from resnetctl.data.dataset import Dataset
from resnetctl.engine.suitable import suitable_recipe
from resnetctl.recipe import Override

DATASET = Dataset(
    root=Path("data"),
    name="pets",
    source="folder",
    recipe=None,
    classes=2,
    train_images=200,
    val_images=20,
    created_by="resnetctl",
    incomplete=None,
    fingerprints={},
)


def test_few_pictures_from_scratch_are_worth_a_word():
    name, why = suitable_recipe(DATASET)
    assert name == "small"
    assert "200 train images" in why
    assert "--weights imagenet1k-v2 takes finetune" in why


def test_starting_weights_ask_for_finetune():
    assert suitable_recipe(DATASET, [Override("model.weights", "w.pth", "--weights")])[0] == "finetune"
    assert suitable_recipe(DATASET, [Override("model.weights", "none", "--weights")])[0] == "small"


def test_a_data_set_may_name_its_recipe_and_many_images_have_theirs():
    assert suitable_recipe(replace(DATASET, recipe="onepager"))[0] == "onepager"
    assert suitable_recipe(replace(DATASET, train_images=200_000))[0] == "fast"
    assert "far" not in suitable_recipe(replace(DATASET, train_images=50_000))[1]
