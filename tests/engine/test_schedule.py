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

NAMES = ("constant", "linear", "cosine", "step")


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
        ({"name": "step", "step_epochs": 3.0, "step_factor": 0.1}, lambda o: lr_scheduler.StepLR(o, 60, 0.1)),
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


@given(
    st.sampled_from(NAMES),
    st.integers(1, 2000),
    st.floats(0.2, 500),
    st.floats(0, 100),
    st.floats(0, 1),
    st.floats(0, 9),
)
def test_no_rate_leaves_its_bounds(name, steps, per_epoch, warmup, start, peak):
    values = {"name": name, "warmup_epochs": warmup, "warmup_start": start}
    for step in {0, 1, steps // 2, steps - 1}:
        rate = learning_rate(step, steps, per_epoch, peak, ScheduleRecipe(**values))
        assert 0 <= rate <= peak * (1 + 1e-12)
        assert math.isfinite(rate)
