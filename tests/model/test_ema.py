"""The moving average against torchvision's reference and Composer's formula."""

import copy

import pytest
import torch
from torch.optim.swa_utils import AveragedModel

from resnetctl.engine.timeline import Timeline
from resnetctl.model.ema import MovingAverage, decay_of
from resnetctl.model.resnet import build_model
from resnetctl.recipe import EmaRecipe, ModelRecipe, Override, TrainRecipe, load_recipe


def change(network: torch.nn.Module, step: int) -> None:
    generator = torch.Generator().manual_seed(step)
    with torch.no_grad():
        for tensor in network.state_dict().values():
            tensor.add_(torch.randn(tensor.shape, generator=generator).to(tensor.dtype))


def test_it_is_torchvisions_average_of_weights_and_buffers():
    """references/classification/utils.py: ExponentialMovingAverage is AveragedModel with use_buffers."""
    network = build_model(ModelRecipe(arch="resnet18"), 3)
    decay = 0.9

    def average(mine, theirs, count):
        return decay * mine + (1 - decay) * theirs

    theirs = AveragedModel(network, avg_fn=average, use_buffers=True)
    ours = MovingAverage(copy.deepcopy(network))
    for step in range(4):
        change(network, step)
        theirs.update_parameters(network)
        ours.update(network, decay if step else 0.0)  # the first one copies
    found, expected = ours.network.state_dict(), theirs.module.state_dict()
    for name, tensor in found.items():
        if tensor.is_floating_point():
            torch.testing.assert_close(tensor, expected[name])


def test_the_rescaled_decay_is_that_of_torchvisions_recipe():
    """0.99998 at a global batch of 1024, every 32 steps, 600 epochs."""
    alpha = min(1.0, (1.0 - 0.99998) * 1024 * 32 / 600)
    ema = EmaRecipe(every_steps=32, decay=0.99998, rescale=True)
    assert decay_of(ema, TrainRecipe(epochs=600, global_batch=1024)) == pytest.approx(1 - alpha)
    assert decay_of(ema, TrainRecipe(epochs=600, global_batch=1024)) == pytest.approx(0.998908, abs=1e-6)


def test_a_half_life_of_100_steps_every_20():
    ema = EmaRecipe(every_steps=20, half_life=100.0)
    assert decay_of(ema, TrainRecipe(epochs=1, global_batch=1)) == pytest.approx(0.8706, abs=1e-4)


def timeline(**ema):
    values = {f"ema.{k}": v for k, v in ema.items()} | {"train.global_batch": 10, "schedule.warmup_epochs": 1.0}
    return Timeline(recipe=load_recipe("small", overrides=[Override(k, v, "t") for k, v in values.items()]), images=105)


def test_updates_of_each_epoch_begin_with_its_first_step_and_copy_in_the_warm_up():
    """105 images in steps of 10: epochs end after 11, 21 and 32 steps."""
    line = timeline(every_steps=4, decay=0.5, count="epoch", in_warmup="copy")
    found = {step: line.ema_decay(step) for step in range(25)}
    assert [step for step, decay in found.items() if decay is not None] == [0, 4, 8, 11, 15, 19, 21]
    assert [found[step] for step in (0, 4, 8, 11, 15)] == [0.0, 0.0, 0.0, 0.5, 0.5]


def test_updates_of_the_run_come_after_every_so_many_steps():
    line = timeline(every_steps=4, decay=0.5)
    assert [step for step in range(14) if line.ema_decay(step) is not None] == [3, 7, 11]
    assert timeline().ema_decay(3) is None
