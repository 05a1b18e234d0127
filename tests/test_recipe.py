import json
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resnetctl.errors import CheckpointError, UsageError
from resnetctl.recipe import (
    CheckpointRecipe,
    DataRecipe,
    ModelRecipe,
    OptimizerRecipe,
    Override,
    Recipe,
    RecipeError,
    TrainRecipe,
    differences,
    effective_lr,
    effective_warmup_epochs,
    keys,
    load_recipe,
    may_change,
    parse_set,
    recipe_from_dict,
    recipe_names,
    recipe_to_dict,
    recipe_to_toml,
    value_of,
)


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


# --- the presets ----------------------------------------------------------------------------------------------------


def test_the_presets_are_there_and_valid() -> None:
    assert recipe_names() == [
        "composer-mild",
        "fast",
        "finetune",
        "goyal",
        "nvidia-250",
        "nvidia-90",
        "onepager",
        "rsb-a1",
        "rsb-a2",
        "rsb-a3",
        "small",
        "tiny",
        "torchvision-v1",
        "torchvision-v2",
    ]
    for name in recipe_names():
        recipe = load_recipe(name)
        assert recipe.name == name
        assert recipe.summary
        assert not recipe.published or recipe.published.startswith("published by ")


def test_fast_is_the_published_schedule_at_a_quarter_of_its_batch() -> None:
    fast = load_recipe("fast")
    assert effective_lr(fast) == pytest.approx(0.425)
    assert effective_lr(load_recipe("fast", overrides=[Override("train.global_batch", 4096, "--batch-size")])) == 1.7
    # the central 224/256 of the shorter side, scaled to 256
    assert fast.data.val_size / fast.data.val_resize == pytest.approx(224 / 256, abs=0.002)
    assert "73.8" in fast.published
    assert any("78.4" in note for note in fast.notes)


def test_onepager_is_the_page() -> None:
    page = load_recipe("onepager")
    assert (page.model.weights, effective_lr(page), page.optimizer.momentum) == ("imagenet1k-v1", 0.001, 0.9)
    assert (page.train.global_batch, page.train.epochs, page.train.running_loss_every) == (64, 10, 2000)
    assert (page.optimizer.weight_decay, page.schedule.name, page.train.precision) == (0.0, "constant", "fp32")


def test_the_warm_up_is_at_most_half_of_the_run() -> None:
    assert effective_warmup_epochs(load_recipe("fast")) == 2.0
    assert effective_warmup_epochs(load_recipe("fast", overrides=[Override("train.epochs", 1, "--epochs")])) == 0.5


# --- layers and origins ---------------------------------------------------------------------------------------------


def test_each_layer_beats_the_one_before_and_says_so(tmp_path: Path) -> None:
    path = write(
        tmp_path / "my.toml",
        'extends = "small"\n[train]\nepochs = 3\nglobal_batch = 32\n[optimizer]\nmomentum = 0.8\n',
    )
    recipe = load_recipe(path, overrides=[Override("train.epochs", 5, "--epochs"), parse_set("optimizer.momentum=0.7")])
    assert recipe.name == "my"
    assert recipe.published == ""
    assert (recipe.train.epochs, recipe.origins["train.epochs"]) == (5, "--epochs")
    assert (recipe.train.global_batch, recipe.origins["train.global_batch"]) == (32, "my.toml")
    assert (recipe.optimizer.momentum, recipe.origins["optimizer.momentum"]) == (0.7, "--set")
    assert (recipe.data.train_size, recipe.origins["data.train_size"]) == (64, "recipe small")
    assert (recipe.checkpoint.keep, recipe.origins["checkpoint.keep"]) == (2, "default")
    assert set(recipe.origins) == set(keys())
    # the rate is stated for 64 images, and half of them get half of it
    assert effective_lr(recipe) == pytest.approx(0.05)


def test_the_last_of_several_overrides_wins() -> None:
    recipe = load_recipe("small", overrides=[parse_set("train.seed=1"), Override("train.seed", 2, "--seed")])
    assert (recipe.train.seed, recipe.origins["train.seed"]) == (2, "--seed")


def test_a_rate_that_is_given_is_the_rate_used(tmp_path: Path) -> None:
    batch = Override("train.global_batch", 256, "--batch-size")
    recipe = load_recipe("fast", overrides=[Override("optimizer.lr", 0.3, "--lr"), batch])
    assert effective_lr(recipe) == 0.3
    assert recipe.origins["optimizer.lr_batch"].startswith("--lr")
    both = load_recipe("fast", overrides=[parse_set("optimizer.lr=2"), parse_set("optimizer.lr_batch=512"), batch])
    assert effective_lr(both) == 1.0
    of_file = load_recipe(write(tmp_path / "f.toml", 'extends = "fast"\noptimizer.lr = 0.2'), overrides=[batch])
    assert effective_lr(of_file) == 0.2
    assert effective_lr(load_recipe("fast", overrides=[batch])) == pytest.approx(1.7 / 16)


def test_the_rate_for_another_batch_follows_the_rule() -> None:
    stated = [parse_set("optimizer.lr=0.4"), parse_set("optimizer.lr_batch=1024"), parse_set("train.global_batch=256")]
    assert effective_lr(load_recipe("fast", overrides=stated)) == pytest.approx(0.1)
    root = [*stated, parse_set("optimizer.lr_rule=sqrt")]
    assert effective_lr(load_recipe("fast", overrides=root)) == pytest.approx(0.2)


def test_files_extend_files_beside_them(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    write(tmp_path / "base.toml", 'extends = "fast"\nsummary = "base"\n[train]\nepochs = 4\nseed = 4')
    path = write(tmp_path / "sub" / "top.toml", 'extends = "../base.toml"\n[train]\nepochs = 6\n')
    recipe = load_recipe(path)
    assert (recipe.train.epochs, recipe.train.seed, recipe.optimizer.lr) == (6, 4, 1.7)
    assert recipe.origins["train.seed"] == "base.toml"
    write(tmp_path / "base.toml", 'extends = "sub/top.toml"')
    with pytest.raises(UsageError, match="deep"):
        load_recipe(path)


@pytest.mark.parametrize("base", ["gone.toml", "fst"])
def test_what_is_extended_and_is_not_there_is_said_with_a_hint(base: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"mine\.toml extends") as raised:
        load_recipe(write(tmp_path / "mine.toml", f'extends = "{base}"'))
    assert base in raised.value.message
    assert "recipe list" in str(raised.value.hint)


def test_a_file_without_extends_needs_what_has_no_default(tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as raised:
        load_recipe(write(tmp_path / "bare.toml", "[train]\nepochs = 3"))
    assert [key for key, _ in raised.value.problems] == ["train.global_batch", "optimizer.lr"]
    whole = load_recipe(write(tmp_path / "whole.toml", "[train]\nepochs = 3\nglobal_batch = 8\n[optimizer]\nlr = 0.1"))
    assert whole.model.arch == "resnet50"


# --- errors ---------------------------------------------------------------------------------------------------------


def test_all_problems_are_told_at_once_with_key_value_origin_and_what_is_allowed(tmp_path: Path) -> None:
    path = write(
        tmp_path / "bad.toml",
        'extends = "small"\nextra = 1\nsummary = 5\n[model]\narch = "resnet51"\n[train]\nlabel_smothing = 0.1\n'
        "[data]\nstd = [1, 2]\ncrop_scale = [0.9, 0.1]\nhflip = nan\n",
    )
    with pytest.raises(UsageError) as raised:
        load_recipe(path, overrides=[Override("train.epochs", 0, "--epochs")])
    message = raised.value.message
    for part in (
        "8 problems",
        "extra: no such value",
        "summary: 5 is not text",
        'model.arch: "resnet51" is not allowed; it must be one of resnet18, resnet34',
        "train.label_smothing: no such value; did you mean train.label_smoothing? (from bad.toml)",
        "data.std: [1, 2] is not a list of 3 numbers",
        "data.crop_scale: [0.9, 0.1] is not allowed",
        "data.hflip: nan is not allowed; it must be from 0.0 to 1.0",
        "train.epochs: 0 is not allowed; it must be from 1 to 100000 (from --epochs)",
    ):
        assert part in message
    assert "recipe show" in str(raised.value.hint)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("train.epochs", True),
        ("train.epochs", 1.0),
        ("train.epochs", "3"),
        ("train.global_batch", -1),
        ("train.seed", -1),
        ("train.seed", 1 << 63),
        ("train.precision", "int8"),
        ("train.label_smoothing", 1.0),
        ("train.micro_batch", 65),
        ("optimizer.lr", float("inf")),
        ("optimizer.lr", float("nan")),
        ("optimizer.lr", 10**400),
        ("optimizer.lr", None),
        ("optimizer.nesterov", 1),
        ("optimizer.momentum", 1),
        ("data.train_size", 0),
        ("data.train_size_start", 128),
        ("data.val_size", 65),
        ("data.mean", [0.1, 0.2, "x"]),
        ("data.crop_scale", [0, 1]),
        ("data.crop_scale", 1.0),
        ("model.weights", ""),
        ("model.weights", "\ud800"),
        ("checkpoint.keep", 0),
        ("schedule.step_milestones", [30, 20]),
        ("schedule.step_milestones", [0, 20]),
        ("schedule.name", "cyclic"),
        ("train", 3),
        ("", 3),
        ("notes", "x"),
    ],
)
def test_values_that_cannot_be_are_refused_by_key(key: str, value: object) -> None:
    with pytest.raises(RecipeError) as raised:
        load_recipe("small", overrides=[Override(key, value, "--x")])
    assert [k for k, _ in raised.value.problems] == [key]
    raised.value.message.encode()


def test_the_classes_check_themselves() -> None:
    with pytest.raises(RecipeError, match=r"2 problems:\n  train.epochs.*\n  train.label_smoothing"):
        TrainRecipe(epochs=0, global_batch=1, label_smoothing=2)
    with pytest.raises(RecipeError, match=r"optimizer.nesterov"):
        OptimizerRecipe(lr=0.1, momentum=0.0, nesterov=True)
    assert OptimizerRecipe(lr=1) == OptimizerRecipe(lr=1.0)
    assert DataRecipe(crop_scale=[0.5, 1]).crop_scale == (0.5, 1.0)  # type: ignore[arg-type]
    with pytest.raises(AttributeError):
        ModelRecipe().arch = "resnet18"  # type: ignore[misc]
    assert CheckpointRecipe().every_minutes == 10.0


@pytest.mark.parametrize("name", ["fst", "FAST", "", "..", "../recipes/fast", "small.tml", "\x1b[31m"])
def test_a_recipe_that_is_not_there(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError) as raised:
        load_recipe(name)
    assert "\x1b" not in raised.value.message
    assert "recipe list" in str(raised.value.hint)
    if name == "fst":
        assert "did you mean fast?" in raised.value.message


@pytest.mark.parametrize(
    "data", [b"epochs: 3", b"\xff\xfe", b"x = [" * 5000, b"a = 1\na = 2", b"\0", b"extends = 3", b"#" * (2 << 20)]
)
def test_files_that_are_no_recipes(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_bytes(data)
    with pytest.raises(UsageError, match=r"r\.toml"):
        load_recipe(str(path))
    with pytest.raises(UsageError, match="cannot be read"):
        load_recipe(str(tmp_path / "none.toml"))
    with pytest.raises(UsageError, match="cannot be read"):
        load_recipe(f"{tmp_path}/")


# --- --set ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("optimizer.lr=0.1", 0.1),
        ("optimizer.lr = 1", 1.0),
        ("optimizer.lr=.5", 0.5),
        ("optimizer.lr=1e-3", 0.001),
        ("train.epochs=1_000", 1000),
        ("train.compile=on", "on"),
        ('train.compile="on"', "on"),
        ("train.channels_last=false", False),
        ("data.crop_scale=[0.5, 1]", (0.5, 1.0)),
        ("data.crop_scale=0.5,1", (0.5, 1.0)),
        ("data.mean=0,0,0", (0.0, 0.0, 0.0)),
        ("schedule.step_milestones=30", (30.0,)),
        ("schedule.step_milestones=30,60,80", (30.0, 60.0, 80.0)),
        ("schedule.step_milestones=", ()),
        ("model.weights=/a b/w=1.pth", "/a b/w=1.pth"),
        ("model.weights='a'", "a"),
        ("model.weights=123", "123"),
    ],
)
def test_set_reads_values_of_the_keys_type(text: str, value: object) -> None:
    override = parse_set(text)
    assert override == (text.partition("=")[0].strip(), value, "--set")
    assert type(override.value) is type(value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("optimizer.lr", "key=value"),
        ("optimizer.lr=", "a number"),
        ("optimizer.lr=fast", "a number"),
        ("optimizer.lr=0.1\ntrain=3", "a number"),
        ("lr=0.1", "did you mean optimizer.lr?"),
        ("train.lr=0.1", "did you mean optimizer.lr?"),
        ("optimizer.momentm=0.1", "did you mean optimizer.momentum?"),
        ("epoch=1", "did you mean train.epochs?"),
        ("train.epochs=1.5", "a whole number"),
        ("train.epochs=true", "a whole number"),
        ("train.channels_last=yes", "true or false"),
        ("data.crop_scale=1", "a list of 2 numbers"),
        ("=1", "no such value"),
        ("\x1b[31m=1", "no such value"),
        ("zzz=1", "no such value"),
    ],
)
def test_set_says_what_it_does_not_understand(text: str, says: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse_set(text)
    assert says in raised.value.message
    assert "\x1b" not in raised.value.message
    assert raised.value.hint
    assert raised.value.exit_code == 2


# --- writing and reading back ---------------------------------------------------------------------------------------

_texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=30)
_recipes = st.builds(
    lambda lr, weights, note, scale, epochs, seed, names: replace(
        load_recipe("fast"),
        name=names[0],
        summary=names[1],
        notes=(note, names[0]),
        model=ModelRecipe(weights=weights),
        data=DataRecipe(crop_scale=(scale, 1.0)),
        optimizer=OptimizerRecipe(lr=lr),
        train=TrainRecipe(epochs=epochs, global_batch=3, seed=seed),
        origins=dict.fromkeys(keys(), names[1]),
    ),
    lr=st.floats(0, 1000),
    weights=_texts,
    note=_texts,
    scale=st.floats(0.001, 1.0),
    epochs=st.integers(1, 1000),
    seed=st.integers(0, (1 << 63) - 1),
    names=st.tuples(_texts, _texts),
)


@settings(max_examples=60, deadline=None)
@given(recipe=_recipes)
def test_any_recipe_survives_toml_and_json(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("r") / "recipe.toml"
    path.write_text(recipe_to_toml(recipe), encoding="utf-8", newline="")
    back = load_recipe(str(path))
    assert back == recipe
    assert set(back.origins.values()) == {"recipe.toml"}
    document = json.loads(json.dumps(recipe_to_dict(recipe)))
    again = recipe_from_dict(document)
    assert again == recipe
    assert again.origins == recipe.origins


def test_toml_says_where_each_value_came_from() -> None:
    text = recipe_to_toml(load_recipe("small", overrides=[parse_set("optimizer.lr=0.2")]))
    assert "lr = 0.2  # from --set\n" in text
    assert 'arch = "resnet50"  # from recipe small\n' in text
    assert "keep = 2  # from default\n" in text
    assert set(tomllib.loads(text)["optimizer"]) == {k.split(".")[1] for k in keys() if k.startswith("optimizer.")}


def test_an_origin_cannot_break_out_of_its_comment(tmp_path: Path) -> None:
    recipe = load_recipe("small", overrides=[Override("train.seed", 1, "x\n[evil]\r\x1b")])
    assert load_recipe(write(tmp_path / "r.toml", recipe_to_toml(recipe))) == recipe


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d["train"].update(epochs=0),
        lambda d: d["train"].update(epochs="9" * 10**6),
        lambda d: d["train"].pop("epochs"),
        lambda d: d["train"].update(evil=1),
        lambda d: d.pop("model"),
        lambda d: d.update(model=[]),
        lambda d: d.update(extra={}),
        lambda d: d.update(origins=[]),
        lambda d: d.update(origins={"train.seed": 3}),
        lambda d: d.update(origins={"train.seed": "x" * 10**6}),
        lambda d: d.update(notes="x"),
        lambda d: d.update(notes=["x" * 10**6]),
        lambda d: d.update(name=None),
        lambda d: d["model"].update(arch="__import__"),
        lambda d: d["model"].update(weights={"a": 1}),
    ],
)
def test_a_hostile_checkpoint_recipe_is_refused(change: object) -> None:
    document = recipe_to_dict(load_recipe("fast"))
    change(document)  # type: ignore[operator]
    with pytest.raises(CheckpointError) as raised:
        recipe_from_dict(document)
    assert len(raised.value.message) < 2000
    assert raised.value.exit_code == 1


def test_a_key_that_an_older_version_did_not_have_takes_its_default() -> None:
    document = recipe_to_dict(load_recipe("fast"))
    del document["data"]["interpolation"]
    assert recipe_from_dict(document) == load_recipe("fast")


@pytest.mark.parametrize("document", [None, [], "x", 3, {}])
def test_what_is_no_recipe_at_all_is_refused(document: object) -> None:
    with pytest.raises(CheckpointError):
        recipe_from_dict(document)


def test_differences_are_by_value_and_not_by_origin(tmp_path: Path) -> None:
    fast = load_recipe("fast")
    copy = load_recipe(write(tmp_path / "copy.toml", recipe_to_toml(fast)))
    assert differences(fast, copy) == []
    other = load_recipe("fast", overrides=[parse_set("train.seed=5"), parse_set("data.hflip=0")])
    assert differences(fast, other) == [("data.hflip", 0.5, 0.0), ("train.seed", 0, 5)]
    assert value_of(other, "train.seed") == 5


def test_a_resumed_run_may_change_what_changes_no_result() -> None:
    assert [key for key in keys() if may_change(key)] == [
        "data.decoder",
        "data.workers",
        "data.timeout_seconds",
        "train.compile",
        "train.max_steps",
        "train.tensorboard",
        "train.eval_every_epochs",
        "checkpoint.every_steps",
        "checkpoint.every_minutes",
        "checkpoint.keep",
    ]


def test_recipes_are_read_without_torch() -> None:
    code = (
        "import sys; from resnetctl.recipe import load_recipe; load_recipe('fast'); "
        "print([m for m in ('torch', 'torchvision', 'numpy', 'safetensors') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
