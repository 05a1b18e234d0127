import json
from pathlib import Path

import pytest

from resnetctl.recipe import Recipe, load_recipe, parse_set, recipe_names
from resnetctl.recipe_published import _curves, falls_short, published_top1

IMAGES = 1_281_167


def recipe(name: str, *settings: str) -> Recipe:
    return load_recipe(name, overrides=[parse_set(text) for text in settings])


def test_fast_has_a_curve_for_each_published_number_of_epochs() -> None:
    ends = {16: 73.8, 24: 75.6, 32: 76.6, 40: 77.2, 56: 78.0, 88: 78.4}
    for epochs, end in ends.items():
        curve = published_top1(recipe("fast", f"train.epochs={epochs}"), 1000, IMAGES)
        assert len(curve) == epochs
        assert curve[-1] == end
    assert published_top1(recipe("fast", "train.epochs=17"), 1000, IMAGES) == ()


@pytest.mark.parametrize("name", recipe_names())
def test_a_published_result_is_there_as_a_number_too(name: str) -> None:
    """Each curve is that of a whole run, or its last value alone, and ends where the text says."""
    found = load_recipe(name)
    curves = _curves(name)
    assert bool(curves) == bool(found.published)
    assert all(len(curve) in (1, int(epochs)) for epochs, curve in curves.items())
    if found.published:
        text = float(found.published.partition("top-1 ")[2].split()[0].rstrip(","))
        assert published_top1(found, 1000, IMAGES)[-1] == pytest.approx(text, abs=0.051)


def test_it_is_for_imagenet_and_the_presets_own_values_alone() -> None:
    assert published_top1(recipe("fast"), 10, IMAGES) == ()
    assert published_top1(recipe("fast"), 1000, 50_000) == ()
    assert published_top1(recipe("fast", "data.crop_scale=0.35,1"), 1000, IMAGES) == ()
    assert published_top1(recipe("fast", "model.arch=resnet18"), 1000, IMAGES) == ()
    assert published_top1(recipe("small"), 1000, IMAGES) == ()
    harmless = ("data.workers=2", "train.seed=3", "train.global_batch=4096", "train.precision=fp16")
    assert published_top1(recipe("fast", *harmless), 1000, IMAGES)[-1] == 73.8


def stream(path: Path, curve: list[float]) -> list[tuple[float, float]]:
    """(epoch, top-1) as a run's metrics.jsonl has them, between lines of training."""
    with path.open("w") as file:
        for epoch, top1 in enumerate(curve, 1):
            file.write(json.dumps({"kind": "train", "step": epoch * 1251, "epoch": epoch - 0.01, "loss": 3.0}) + "\n")
            file.write(json.dumps({"kind": "eval", "step": epoch * 1251, "epoch": epoch + 1e-4, "top1": top1}) + "\n")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [(line["epoch"], line["top1"]) for line in lines if line["kind"] == "eval"]


def short_at(path: Path, measured: list[float]) -> list[int]:
    """The epochs after which the first of so many would be told that it falls short."""
    curve = published_top1(recipe("fast"), 1000, IMAGES)
    metrics = stream(path, measured)
    return [n for n in range(1, len(metrics) + 1) if falls_short(curve, 16, metrics[:n]) is not None]


def test_the_sources_other_runs_never_fall_short_while_they_are_alike(tmp_path: Path) -> None:
    """Two epochs of warm-up and the peak after them are the same for all of the source's runs."""
    for epochs in (24, 32, 56, 88):
        assert short_at(tmp_path / "m.jsonl", list(_curves("fast")[str(epochs)][:4])) == []


def test_a_dip_is_no_shortfall_and_a_slow_run_is_one(tmp_path: Path) -> None:
    curve = list(_curves("fast")["16"])
    assert short_at(tmp_path / "m.jsonl", curve) == []
    dips = [*curve[:7], 20.0, *curve[8:12], 50.0, *curve[13:]]
    assert short_at(tmp_path / "m.jsonl", dips) == []
    assert short_at(tmp_path / "m.jsonl", [0.1] * 5) == [2, 3, 4, 5]
    assert short_at(tmp_path / "m.jsonl", [*curve[:15], 71.7]) == [16]
    assert short_at(tmp_path / "m.jsonl", [*curve[:15], 71.9]) == []


def test_where_the_end_alone_is_published_only_the_end_is_compared() -> None:
    curve = published_top1(recipe("torchvision-v1"), 1000, IMAGES)
    assert curve == (76.1,)
    assert falls_short(curve, 90, [(89.0, 10.0)]) is None
    assert falls_short(curve, 90, [(89.0, 10.0), (90.0, 74.0)]) == 76.1
    assert falls_short(curve, 90, [(90.0, 74.2)]) is None
    assert falls_short((), 90, [(90.0, 74.2)]) is None
    assert falls_short(curve, 90, []) is None
