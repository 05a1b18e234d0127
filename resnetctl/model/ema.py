"""An exponential moving average of a model's weights and buffers."""

from __future__ import annotations

import copy

import torch
from torch import nn

from resnetctl.recipe import EmaRecipe, TrainRecipe


class MovingAverage:
    """A second network that averages the first; integer buffers, which count batches, are copied."""

    def __init__(self, network: nn.Module) -> None:
        self.network = copy.deepcopy(network).requires_grad_(False).eval()

    @torch.no_grad()
    def update(self, network: nn.Module, decay: float) -> None:
        """average = decay × average + (1 - decay) × network; decay 0 copies."""
        pairs = list(zip(self.network.state_dict().values(), network.state_dict().values(), strict=True))
        averaged = [(mine, theirs) for mine, theirs in pairs if mine.is_floating_point() and decay]
        if averaged:
            mine, theirs = (list(side) for side in zip(*averaged, strict=True))
            torch._foreach_lerp_(mine, theirs, 1 - decay)
        for mine, theirs in pairs:
            if not (mine.is_floating_point() and decay):
                mine.copy_(theirs)


def decay_of(ema: EmaRecipe, train: TrainRecipe) -> float:
    """The fraction of the average that one update keeps, from the recipe's decay or half-life.

    Rescaled as in torchvision's references/classification/train.py, whose decay is stated for one update per image and
    epoch. By half-life as in Composer: 2^(-every_steps / half_life).
    """
    if ema.half_life:
        return float(2.0 ** (-ema.every_steps / ema.half_life))
    if ema.rescale:
        return 1.0 - min(1.0, (1.0 - ema.decay) * train.global_batch * ema.every_steps / train.epochs)
    return ema.decay
