"""From images to the loss, as one module for torch.compile and DistributedDataParallel."""

from __future__ import annotations

import torch
from torch import nn

from resnetctl.engine.loss import training_loss
from resnetctl.engine.normalise import Normalise
from resnetctl.recipe import TrainRecipe


class LossOf(nn.Module):
    """A network, preceded by normalisation and followed by the training loss."""

    def __init__(self, network: nn.Module, normalise: Normalise, recipe: TrainRecipe) -> None:
        super().__init__()
        self.network, self.normalise, self.recipe = network, normalise, recipe
        self.memory_format = torch.channels_last if recipe.channels_last else torch.contiguous_format

    def forward(self, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """The mean loss, a scalar float32, of `[B, 3, H, W]` images, uint8 or already normalised.

        `targets` are labels, `[B] int64`, or shares of classes, `[B, C] float32`.
        """
        if images.dtype == torch.uint8:
            images = self.normalise(images)
        logits: torch.Tensor = self.network(images.contiguous(memory_format=self.memory_format))
        return training_loss(logits.float(), targets, self.recipe)
