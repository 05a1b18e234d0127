"""Each preset's learning rate on ImageNet, against the source's own scheduler or, where there is none, its text."""

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch.optim import lr_scheduler

from resnetctl.data.batches.order import epoch_end, total_steps
from resnetctl.engine.schedule import learning_rate
from resnetctl.recipe import Recipe, effective_lr, load_recipe, parse_set

IMAGES = 1_281_167


def rate(recipe: Recipe, step: int) -> float:
    """The rate of `step` of a run on ImageNet."""
    batch = recipe.train.global_batch
    steps = total_steps(recipe.train.epochs, IMAGES, batch)
    return learning_rate(step, steps, IMAGES / batch, effective_lr(recipe), recipe.schedule)


def by_scheduler(epochs: int, lr: float, make: Callable[[torch.optim.Optimizer], lr_scheduler.LRScheduler]) -> list:
    """The rate of each epoch under a scheduler that is stepped once an epoch."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr)
    scheduler, found = make(optimizer), []
    for _ in range(epochs):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def check_by_epoch(recipe: Recipe, expected: list[float]) -> None:
    """The rate is `expected[epoch]` at the first and the last step of ten epochs or more."""
    assert len(expected) == recipe.train.epochs
    batch = recipe.train.global_batch
    for epoch in {0, 1, 2, 4, 5, 7, 8, 29, 30, 59, 60, len(expected) // 2, len(expected) - 2, len(expected) - 1}:
        first = epoch_end(epoch - 1, IMAGES, batch) if epoch else 0
        last = min(epoch_end(epoch, IMAGES, batch), total_steps(len(expected), IMAGES, batch)) - 1
        for step in (first, last):
            assert rate(recipe, step) == pytest.approx(expected[epoch], rel=1e-6, abs=1e-12), (epoch, step)


def test_torchvision_v1() -> None:
    """references/classification/train.py: --lr-scheduler steplr --lr-step-size 30 --lr-gamma 0.1."""
    expected = by_scheduler(90, 0.1, lambda o: lr_scheduler.StepLR(o, step_size=30, gamma=0.1))
    check_by_epoch(load_recipe("torchvision-v1"), expected)


def test_goyal() -> None:
    """arXiv:1706.02677, 2.2 and 5.1: from 0.1 to 0.1 × kn / 256 over 5 epochs, then a tenth at 30, 60 and 80."""
    recipe = load_recipe("goyal")
    per_epoch = IMAGES / 8192
    steps = [0, 1, 100, 390, 781, 782, 783, 4000, 4692, 4693, 9384, 12_512, 12_513, 14_075]
    for step in steps:
        epoch = step / per_epoch
        expected = 0.1 + (3.2 - 0.1) * epoch / 5 if epoch < 5 else 3.2 * 0.1 ** sum(epoch >= e for e in (30, 60, 80))
        assert rate(recipe, step) == pytest.approx(expected, rel=1e-9), step
    assert [rate(recipe, math.ceil(e * per_epoch)) for e in (29, 30, 60, 80)] == pytest.approx(
        [3.2, 0.32, 0.032, 0.0032]
    )


def nvidia(epochs: int) -> list[float]:
    """lr_cosine_policy with a warm-up of 8 epochs and an end rate of 0, as main.py calls it."""
    warm = [2.048 * (epoch + 1) / 8 for epoch in range(8)]
    return warm + [2.048 * 0.5 * (1 + math.cos(math.pi * e / (epochs - 8))) for e in range(epochs - 8)]


def test_nvidia_90() -> None:
    check_by_epoch(load_recipe("nvidia-90"), nvidia(90))


def test_torchvision_v2() -> None:
    """references/classification/train.py: cosineannealinglr over 595 epochs behind a LinearLR of 5 from 0.01."""

    def make(optimizer: torch.optim.Optimizer) -> lr_scheduler.LRScheduler:
        warm = lr_scheduler.LinearLR(optimizer, start_factor=0.01, total_iters=5)
        main = lr_scheduler.CosineAnnealingLR(optimizer, T_max=600 - 5)
        return lr_scheduler.SequentialLR(optimizer, [warm, main], milestones=[5])

    expected = by_scheduler(600, 0.5, make)
    assert expected[:6] == pytest.approx([0.005, 0.104, 0.203, 0.302, 0.401, 0.5])
    check_by_epoch(load_recipe("torchvision-v2"), expected)


@pytest.mark.parametrize(
    ("name", "epochs", "lr"), [("rsb-a1", 600, 5e-3), ("rsb-a2", 300, 5e-3), ("rsb-a3", 100, 8e-3)]
)
def test_rsb(name: str, epochs: int, lr: float) -> None:
    """timm's cosine, stepped once an epoch as its train.py does: --warmup-epochs 5 --warmup-lr 1e-4 --min-lr 1e-6."""
    timm_scheduler = pytest.importorskip("timm.scheduler")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr)
    scheduler = timm_scheduler.CosineLRScheduler(
        optimizer, t_initial=epochs, lr_min=1e-6, warmup_t=5, warmup_lr_init=1e-4
    )
    expected = []
    for epoch in range(epochs):
        expected.append(optimizer.param_groups[0]["lr"])
        scheduler.step(epoch + 1)
    check_by_epoch(load_recipe(name), expected)


def test_composer_mild() -> None:
    """CosineAnnealingWithWarmupScheduler(t_warmup="8ep", t_max="1dur", alpha_f=0), stepped with each batch."""
    recipe = load_recipe("composer-mild")
    per_epoch, steps = IMAGES / 2048, total_steps(36, IMAGES, 2048)
    warm = 8 * per_epoch
    for step in np.linspace(0, steps - 1, 13).astype(int).tolist():
        share = (step - warm) / (steps - warm)
        expected = 2.048 * (step / warm if step < warm else (1 + math.cos(math.pi * share)) / 2)
        assert rate(recipe, step) == pytest.approx(expected, rel=1e-9), step


def test_nvidia_250() -> None:
    check_by_epoch(load_recipe("nvidia-250"), nvidia(250))


@pytest.mark.parametrize("epochs", [16, 24, 32, 40, 56, 88])
def test_fast(epochs: int) -> None:
    """train_imagenet.py: by numpy from (0, 1e-4 × 1.7) over (2, 1.7) to (epochs, 0), linear within an epoch."""
    given = [parse_set(f"train.epochs={epochs}"), parse_set("train.global_batch=4096")]
    recipe = load_recipe("fast", overrides=given)
    total = total_steps(epochs, IMAGES, 4096)
    for begin, end in pairwise(np.linspace(0, total - 1, 11).astype(int).tolist()):
        for step in (begin, end):
            expected = np.interp(step / (IMAGES / 4096), [0, 2, epochs], [1.7e-4, 1.7, 0])
            assert rate(recipe, step) == pytest.approx(float(expected), abs=1e-3), step
