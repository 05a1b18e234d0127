"""The number of images in a forward pass."""

from __future__ import annotations

import torch

from resnetctl.errors import UsageError
from resnetctl.recipe import Recipe

MICRO_BATCH_LIMIT = {"cpu": 64, "cuda": 256}


def choose_micro_batch(recipe: Recipe, device: torch.device, world_size: int) -> int:
    """Images in one forward pass on one device. Raises UsageError if the batches do not divide evenly."""
    share, rest = divmod(recipe.train.global_batch, world_size)
    if rest:
        raise UsageError(
            f"a global batch of {recipe.train.global_batch} does not divide among {world_size} processes",
            hint=f"--batch-size {max(1, share) * world_size}",
        )
    if recipe.train.micro_batch:
        if share % recipe.train.micro_batch:
            raise UsageError(
                f"train.micro_batch {recipe.train.micro_batch} does not divide the {share} images of each process",
                hint="choose a divisor of the batch",
            )
        return recipe.train.micro_batch
    limit = MICRO_BATCH_LIMIT.get(device.type, 64)
    divisors = [n for n in range(1, share + 1) if share % n == 0]
    # a batch of an awkward size is divided into larger parts rather than tiny ones, which batch norm could not use
    return next((n for n in reversed(divisors) if limit / 4 <= n <= limit), None) or next(
        (n for n in divisors if n >= limit), share
    )
