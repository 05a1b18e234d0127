"""Learning rates at their landmarks, and against torch's own schedulers step by step."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim import lr_scheduler

from resnetctl.engine.schedule import learning_rate
from resnetctl.recipe import ScheduleRecipe

NAMES = ("constant", "linear", "cosine", "step", "one-cycle")


def curve(steps: int, per_epoch: float, peak: float, **values: object) -> list[float]:
    schedule = ScheduleRecipe(**values)
    return [learning_rate(step, steps, per_epoch, peak, schedule) for step in range(steps)]


def by_torch(steps: int, peak: float, make) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=peak)
    scheduler, found = make(optimizer), []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


@pytest.mark.parametrize(
    ("values", "make"),
    [
        ({"name": "constant"}, lambda o: lr_scheduler.ConstantLR(o, 1.0)),
        ({"name": "linear"}, lambda o: lr_scheduler.LinearLR(o, 1.0, 0.0, total_iters=200)),
        ({"name": "cosine"}, lambda o: lr_scheduler.CosineAnnealingLR(o, T_max=200)),
        ({"name": "cosine", "final": 0.1}, lambda o: lr_scheduler.CosineAnnealingLR(o, T_max=200, eta_min=0.04)),
        ({"name": "linear", "final": 0.25}, lambda o: lr_scheduler.LinearLR(o, 1.0, 0.25, total_iters=200)),
        ({"name": "step", "step_epochs": 3.0, "step_factor": 0.1}, lambda o: lr_scheduler.StepLR(o, 60, 0.1)),
        ({"name": "step", "step_milestones": (2, 7.5)}, lambda o: lr_scheduler.MultiStepLR(o, [40, 150], 0.1)),
        (
            {"name": "one-cycle", "warmup_epochs": 3.0, "warmup_start": 0.04, "final": 4e-6},
            lambda o: lr_scheduler.OneCycleLR(o, 0.4, total_steps=200, pct_start=0.3, cycle_momentum=False),
        ),
        (
            {"name": "cosine", "warmup_epochs": 2.0, "warmup_start": 0.01},
            lambda o: lr_scheduler.SequentialLR(
                o,
                [lr_scheduler.LinearLR(o, 0.01, 1.0, total_iters=40), lr_scheduler.CosineAnnealingLR(o, T_max=160)],
                [40],
            ),
        ),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_curve_is_that_of_torchs_scheduler(values, make):
    """200 steps, 20 an epoch."""
    assert curve(200, 20.0, 0.4, **values) == pytest.approx(by_torch(200, 0.4, make), rel=1e-5, abs=1e-9)


@pytest.mark.parametrize("per_epoch", [1_281_167 / 256, 7.0, 10 / 3])
def test_a_rate_by_epoch_is_that_of_its_first_step_throughout(per_epoch):
    """torchvision's and timm's loops step their schedulers after each epoch."""
    epochs = 20
    steps = math.floor(epochs * per_epoch)

    def make(optimizer):
        warm = lr_scheduler.LinearLR(optimizer, 0.01, 1.0, total_iters=5)
        return lr_scheduler.SequentialLR(optimizer, [warm, lr_scheduler.CosineAnnealingLR(optimizer, T_max=15)], [5])

    expected = by_torch(epochs, 0.5, make)
    schedule = ScheduleRecipe(name="cosine", per="epoch", warmup_epochs=5.0, warmup_start=0.01)
    for epoch in range(epochs):
        first, last = math.ceil(epoch * per_epoch - 1e-9), min(steps, math.ceil((epoch + 1) * per_epoch - 1e-9)) - 1
        for step in (first, (first + last) // 2, last):
            found = learning_rate(step, steps, per_epoch, 0.5, schedule)
            assert found == pytest.approx(expected[epoch], rel=1e-9), (epoch, step)


def test_the_peak_can_be_the_last_of_the_warm_up():
    """lr_cosine_policy of NVIDIA's examples: base × (epoch + 1) / 8, then half a cosine over the other epochs."""
    rates = curve(90, 1.0, 2.0, name="cosine", per="epoch", warmup_epochs=8.0, peak_in_warmup=True)
    assert rates[:9] == pytest.approx([2.0 * (epoch + 1) / 8 for epoch in range(8)] + [2.0])
    assert rates[49] == pytest.approx(1.0)
    assert rates[89] == pytest.approx(1 + math.cos(math.pi * 81 / 82))


def test_a_decay_can_count_from_the_start_of_the_run():
    """timm's cosine runs below its warm-up, from which it jumps to where it has come."""
    rates = curve(100, 1.0, 1.0, name="cosine", per="epoch", warmup_epochs=5.0, decay_from="start", final=0.1)
    assert rates[4] == pytest.approx(0.8)
    assert rates[5] == pytest.approx(0.1 + 0.9 * (1 + math.cos(math.pi * 0.05)) / 2)
    assert rates[50] == pytest.approx(0.55)


def test_the_curve_of_the_fast_recipe_is_the_published_one():
    """train_imagenet.py of ffcv-imagenet interpolates between (0, 1e-4), (2 epochs, 1) and (16 epochs, 0)."""
    per_epoch = 1_281_167 / 1024
    steps = 16 * 1_281_167 // 1024
    schedule = ScheduleRecipe(name="linear", warmup_epochs=2.0, warmup_start=1e-4)
    for step in (0, 1, 1000, 2502, 2503, 10_000, steps - 1):
        published = np.interp(step / per_epoch, [0, 2, 16], [1e-4 * 1.7, 1.7, 0])
        assert learning_rate(step, steps, per_epoch, 1.7, schedule) == pytest.approx(published, abs=1e-3)


def test_landmarks():
    linear = curve(100, 10.0, 2.0, name="linear", warmup_epochs=2.0)
    assert linear[0] == 0
    assert linear[10] == 1
    assert linear[20] == 2  # the peak is the first step after the warm-up
    assert linear[60] == 1
    assert 0 < linear[99] < 0.03  # the last step still learns
    cosine = curve(100, 10.0, 2.0, name="cosine")
    assert cosine[0] == 2
    assert cosine[50] == pytest.approx(1)
    step = curve(90, 1.0, 1.0, name="step", step_epochs=30.0)
    assert [step[i] for i in (29, 30, 59, 60, 89)] == pytest.approx([1, 0.1, 0.1, 0.01, 0.01])


def test_a_warm_up_longer_than_half_of_a_short_run_is_cut():
    rates = curve(10, 100.0, 1.0, name="linear", warmup_epochs=5.0)
    assert rates == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1, 0.8, 0.6, 0.4, 0.2])
    assert curve(3, 100.0, 1.0, name="linear", warmup_epochs=5.0) == pytest.approx([0, 2 / 3, 2 / 3])


@given(
    st.sampled_from(NAMES),
    st.integers(1, 2000),
    st.floats(0.2, 500),
    st.floats(0, 100),
    st.floats(0, 1),
    st.floats(0, 9),
    st.fixed_dictionaries(
        {
            "per": st.sampled_from(["step", "epoch"]),
            "peak_in_warmup": st.booleans(),
            "decay_from": st.sampled_from(["warmup", "start"]),
            "final": st.floats(0, 1),
            "step_milestones": st.lists(st.integers(1, 90), unique=True).map(sorted),
        }
    ),
)
def test_no_rate_leaves_its_bounds(name, steps, per_epoch, warmup, start, peak, more):
    values = {"name": name, "warmup_epochs": warmup, "warmup_start": start, **more}
    for step in {0, 1, steps // 2, steps - 1}:
        rate = learning_rate(step, steps, per_epoch, peak, ScheduleRecipe(**values))
        assert 0 <= rate <= peak * (1 + 1e-12)
        assert math.isfinite(rate)


@pytest.mark.parametrize("name", ["linear", "cosine", "one-cycle"])
def test_after_the_planned_steps_the_rate_stays_at_its_end(name):
    schedule = ScheduleRecipe(name=name, warmup_epochs=3.0, final=0.25)
    assert [learning_rate(step, 100, 10.0, 2.0, schedule) for step in (100, 107, 250)] == pytest.approx([0.5] * 3)


def test_one_cycle_without_a_warm_up_starts_at_its_peak_and_ends_at_its_final_rate():
    values = {"name": "one-cycle", "warmup_epochs": 0.0, "warmup_start": 0.04, "final": 0.25}
    assert curve(2, 1.0, 2.0, **values) == pytest.approx([2.0, 0.5])
