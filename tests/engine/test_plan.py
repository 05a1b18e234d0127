import dataclasses
import time
from types import SimpleNamespace

import pytest
import torch

from resnetctl.data.batches.resolution import train_size
from resnetctl.engine import bench, plan
from resnetctl.recipe import Override, load_recipe
from tests.process import call


@pytest.mark.parametrize(
    ("model", "worker", "cores", "workers"),
    [(20, 1000, 2, 1), (3000, 1000, 16, 4), (3000, 1000, 2, 2), (900, 1000, 16, 2), (1e6, 1000, 64, 16)],
)
def test_workers_follow_from_what_the_model_takes(model, worker, cores, workers):
    assert plan.workers_for(model, worker, cores) == workers


def test_the_slower_one_decides_and_on_the_cpu_both_take_the_cores():
    assert plan.together(3000, 1000, 2, 16, "cuda") == 2000
    assert plan.together(1500, 1000, 2, 16, "cuda") == 1500
    assert plan.together(1500, 1000, 0, 16, "cuda") == pytest.approx(600), "without workers the times add up"
    assert plan.together(20, 500, 1, 2, "cpu") == pytest.approx(1 / (1 / 20 + 1 / 1000))


def test_time_of_a_run_with_growing_resolution():
    recipe = load_recipe("fast")
    # as if the time of an image were its pixels in microseconds
    rates = {size: 1e6 / size**2 for size in (160, 192)}
    sizes = [train_size(e, recipe.data, recipe.train) for e in range(16)]
    assert set(sizes) == {160, 192}
    expected = sum(1000 * size**2 * 1e-6 for size in sizes)
    assert plan._training_seconds(recipe, 1000, rates[192], rates[160]) == pytest.approx(expected)


def test_windows_count_what_was_done():
    def go():
        time.sleep(0.01)
        return 3

    rate = bench.windows(go, lambda: None, 0.2)
    assert rate.low <= rate.median <= rate.high
    assert 60 < rate.median <= 300, "three in ten milliseconds, and a little for the call"
    assert rate.images % 3 == 0


def test_operations_of_the_published_network():
    recipe = load_recipe("onepager")
    # He et al. count 3.8e9 multiply-adds forward; v1.5 has 4.1e9. Backward costs twice that, but for the first input
    assert bench.flop_per_image(recipe, 1000) == pytest.approx(3 * 2 * 4.09e9, rel=0.02)
    large = bench.at_size(recipe, 448)
    assert bench.flop_per_image(large, 1000) == pytest.approx(4 * bench.flop_per_image(recipe, 1000), rel=0.01)


def measure_step() -> None:
    values = {"model.arch": "resnet18", "train.global_batch": 8, "data.train_size": 32}
    recipe = load_recipe("small", overrides=[Override(k, v, "test") for k, v in values.items()])
    found = bench.measure_model(recipe, 10, device=torch.device("cpu"), seconds=0.1)
    assert found.micro_batch == 8
    assert found.rate.images >= 8 * bench.WINDOWS
    assert 0 < found.rate.median < found.bound
    if found.memory_bytes is not None:  # weights, gradients and momenta at least
        assert found.memory_bytes > 3 * 4 * 11e6 * 0.5
    weights = 11_181_642 * 4
    assert found.checkpoint_bytes == pytest.approx(2 * weights, rel=0.01)
    assert dataclasses.asdict(found)["precision"] in ("bfloat16", "float32")


def test_the_step_is_measured_with_its_memory():
    """In a process of its own: memory that earlier tests left behind would serve it."""
    done = call(measure_step)
    assert done.returncode == 0, done.stderr


def test_the_largest_micro_batch_is_found_by_trial(monkeypatch):
    tried = []

    def measure(recipe, classes, *, device, seconds, micro_batch=None, progress=None):
        tried.append((micro_batch, recipe.train.compile))
        if micro_batch > 64:
            raise torch.OutOfMemoryError
        return micro_batch

    monkeypatch.setattr(plan, "measure_model", measure)
    recipe = load_recipe("small", overrides=[Override("train.global_batch", 512, "test")])
    model, largest = plan._measure_largest(recipe, 10, torch.device("cuda"), 1.0, lambda *_: None)
    assert (model, largest) == (64, 64), "the step is measured with what fits, though training would have taken 256"
    assert tried == [(16, "off"), (32, "off"), (64, "off"), (128, "off"), (64, "auto")]


def advice(device: str, share: float, largest: int) -> str:
    """What is said of a step at `share` of the matrix-product rate, whose micro-batch is 64."""
    model = SimpleNamespace(rate=SimpleNamespace(median=1000 * share), bound=1000.0, micro_batch=64, compiled=True)
    return " ".join(plan._advice(load_recipe("small"), "model", torch.device(device), None, model, 4, largest))


@pytest.mark.parametrize(
    ("device", "share", "largest", "told"),
    [("cuda", 0.15, 256, False), ("cuda", 0.05, 256, True), ("cuda", 0.05, 64, False), ("cpu", 0.15, 256, True)],
)
def test_the_step_is_measured_by_what_a_resnet_reaches_on_the_device(device, share, largest, told):
    """On a GPU 15 % of the matrix-product rate is as good as it gets; and a larger batch has to fit."""
    said = advice(device, share, largest)
    assert ("train.micro_batch=256" in said) == told
    assert (f"{100 * share:.0f} % of the matrix-product rate" in said) == told
