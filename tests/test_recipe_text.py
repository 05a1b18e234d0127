from pathlib import Path

import pytest

from resnetctl.recipe import Override, keys, load_recipe, recipe_names
from resnetctl.recipe_text import meanings, recipe_to_file


def test_every_key_says_what_it_means() -> None:
    assert list(meanings()) == keys()
    assert all(text.endswith(".") for text in meanings().values())


@pytest.mark.parametrize("name", recipe_names())
def test_the_file_holds_the_same_values_but_not_the_published_result(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name, overrides=[Override("model.weights", 'a # "b"', "--set")])
    path = tmp_path / f"{name}.toml"
    path.write_text(recipe_to_file(recipe), encoding="utf-8")
    copy = load_recipe(str(path))
    assert copy.published == ""
    assert [copy.model, copy.data, copy.train] == [recipe.model, recipe.data, recipe.train]
    assert [copy.optimizer, copy.schedule, copy.checkpoint] == [recipe.optimizer, recipe.schedule, recipe.checkpoint]
    assert max(map(len, path.read_text().partition("[model]")[2].splitlines())) <= 100
