"""The training loss."""

from __future__ import annotations

import torch
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from resnetctl.data.batches.mix import shares_of
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
