import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

Cli = Callable[..., "CompletedProcess[str]"]


def test_list_names_every_recipe_and_its_published_result(cli: Cli) -> None:
    done = cli("recipe", "list")
    assert done.returncode == 0
    assert done.stderr == ""
    lines = {line.split()[0]: line for line in done.stdout.splitlines()}
    assert {"fast", "onepager", "small"} <= set(lines)
    assert "published by FFCV" in lines["fast"]
    assert lines["small"].endswith("none")
    rows = {row["recipe"]: row for row in json.loads(cli("recipe", "list", "--json").stdout)["recipes"]}
    assert rows["fast"]["lr"] == pytest.approx(0.425)
    assert rows["small"]["published"] == ""


def test_show_tells_every_value_and_where_it_came_from(cli: Cli) -> None:
    done = cli("recipe", "show", "fast", "--set", "optimizer.lr=0.3", "--set", "train.epochs=1")
    assert done.returncode == 0
    rows = {line.split("  ")[0]: line for line in done.stdout.splitlines()}
    assert rows["optimizer.lr"].split()[1:] == ["0.3", "--set"]
    assert rows["optimizer.lr_batch"].split()[1] == "0"
    assert rows["learning rate in use"].split()[4] == "0.3"
    assert "0.5" in rows["warm-up in use, epochs"]
    assert rows["data.val_resize"].endswith("recipe fast")
    assert rows["checkpoint.keep"].endswith("default")
    assert "libffcv/ffcv-imagenet" in done.stdout


def test_show_toml_is_a_recipe_file_to_start_from(cli: Cli, tmp_path: Path) -> None:
    done = cli("recipe", "show", "onepager", "--toml", "--set", "train.seed=7")
    document = tomllib.loads(done.stdout)
    assert document["train"]["seed"] == 7
    (tmp_path / "mine.toml").write_text(done.stdout)
    shown = cli("recipe", "show", "mine.toml", "--json")
    found = json.loads(shown.stdout)
    assert found["values"]["train"]["seed"] == 7
    assert found["origins"]["train.seed"] == "mine.toml"
    assert found["effective"] == {"lr": 0.001, "warmup_epochs": 0.0}
    same = cli("recipe", "diff", "onepager", "mine.toml", "--json")
    assert json.loads(same.stdout)["differences"] == [{"key": "train.seed", "a": 0, "b": 7}]


def test_new_writes_a_copy_to_edit_and_says_how_to_use_it(cli: Cli, tmp_path: Path) -> None:
    done = cli("recipe", "new", "my own", "--from", "fast", "--set", "train.epochs=32")
    assert (done.returncode, done.stdout) == (0, "my own.toml\n")
    assert "resnetctl train --recipe 'my own.toml'" in done.stderr
    text = (tmp_path / "my own.toml").read_text()
    assert "# Passes over the training data.\nepochs = 32\n" in text
    shown = json.loads(cli("recipe", "show", "my own.toml", "--json").stdout)
    assert (shown["recipe"], shown["published"]) == ("my own", "")
    same = cli("recipe", "diff", "fast", "my own.toml", "--json")
    assert [entry["key"] for entry in json.loads(same.stdout)["differences"]] == ["train.epochs"]


def test_new_never_overwrites(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("precious")
    done = cli("recipe", "new", "mine.toml", "--from", "small")
    assert (done.returncode, done.stdout) == (2, "")
    assert "mine.toml already exists" in done.stderr
    assert (tmp_path / "mine.toml").read_text() == "precious"


def test_diff_shows_what_differs_and_only_that(cli: Cli) -> None:
    done = cli("recipe", "diff", "small", "fast")
    keys = [line.split()[0] for line in done.stdout.splitlines()[1:]]
    assert "data.train_size" in keys
    assert "optimizer.momentum" not in keys
    same = cli("recipe", "diff", "fast", "fast")
    assert (same.returncode, same.stdout) == (0, "")
    assert "same values" in same.stderr


@pytest.mark.parametrize(
    ("args", "code", "says", "hint"),
    [
        (["show", "fst"], 2, "did you mean fast?", "recipe list"),
        (["show", "none.toml"], 2, "none.toml cannot be read", "recipe list"),
        (["show", "fast", "--set", "lr=1"], 2, "did you mean optimizer.lr?", "recipe show"),
        (["show", "fast", "--set", "train.epochs=x"], 2, "a whole number", "recipe show"),
        (["show", "fast", "--set", "train.epochs=0"], 2, "it must be from 1 to 100000 (from --set)", "recipe show"),
        (["show", "fast", "--toml", "--json"], 2, "cannot be combined", "--help"),
        (["new", "mine", "--from", "fst"], 2, "did you mean fast?", "recipe list"),
        (["new", "mine"], 2, "--from", "--help"),
        (["new", "", "--from", "fast"], 2, "cannot be a recipe's name", "recipe new"),
        (["new", "none/mine", "--from", "fast"], 2, "cannot be written: No such file", "another place"),
        (["diff", "fast"], 2, "", "--help"),
        (["show", "[bold]x[/bold]"], 2, "[bold]x[/bold]", "recipe list"),
    ],
)
def test_mistakes_are_one_clear_error(cli: Cli, args: list[str], code: int, says: str, hint: str) -> None:
    done = cli("recipe", *args)
    assert done.returncode == code
    if "--json" in args:
        assert json.loads(done.stdout)["kind"] == "error"
    else:
        assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert says in done.stderr
    assert hint in done.stderr.partition("hint: ")[2]
