"""The training loss, and the network with it as one module for torch.compile and DistributedDataParallel."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from resnetctl.data.batches.mix import shares_of
from resnetctl.engine.normalise import Normalise
from resnetctl.recipe import TrainRecipe


def training_loss(logits: torch.Tensor, targets: torch.Tensor, recipe: TrainRecipe) -> torch.Tensor:
    """The mean loss, a scalar float32, of `[B, C] float32` logits.

    `targets` are labels, `[B] int64`, or shares of classes, `[B, C] float32`. Smoothing is added here to both:
    (1 - ε) × targets + ε / C (Szegedy et al. 2015, arXiv:1512.00567).
    """
    if recipe.loss == "cross-entropy":
        return cross_entropy(logits, targets, label_smoothing=recipe.label_smoothing)
    classes = logits.shape[1]
    shares = targets if targets.dim() == 2 else shares_of(targets, classes)
    if recipe.label_smoothing:
        shares = shares * (1 - recipe.label_smoothing) + recipe.label_smoothing / classes
    if recipe.bce_threshold:
        shares = (shares > recipe.bce_threshold).to(logits.dtype)
    loss = binary_cross_entropy_with_logits(logits, shares)
    return loss * classes if recipe.bce_sum else loss


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
