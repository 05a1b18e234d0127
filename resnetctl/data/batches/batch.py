"""What a loader hands over, and the memory that it lies in."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch.utils.data import get_worker_info

from resnetctl.errors import ResnetctlError


class Batch(NamedTuple):
    """What a loader hands over."""

    images: torch.Tensor
    """`[B, 3, S, S] uint8`, channels last."""
    labels: torch.Tensor
    """`[B] int64`; -1 for a picture that could not be read, in evaluation only."""
    unreadable: torch.Tensor
    """`[K] int64`: samples that could not be read; in training others took their place."""


def empty_images(count: int, size: int) -> torch.Tensor:
    """`[count, 3, size, size] uint8`, channels last; in a worker it is made in shared memory, which saves a copy."""
    if get_worker_info() is None:
        pixels = torch.empty((count, size, size, 3), dtype=torch.uint8)
    else:
        try:
            shared = torch.UntypedStorage._new_shared(count * size * size * 3)  # as torch's own default_collate does
        except RuntimeError as error:
            raise ResnetctlError(
                f"a loader worker got no shared memory for a batch: {error}",
                hint="is /dev/shm full (resnetctl info)? Docker gives 64 MiB unless told: --shm-size=8g or --ipc=host; "
                "fewer --workers and a smaller train.micro_batch need less",
            ) from error
        pixels = torch.empty(0, dtype=torch.uint8).set_(shared).view(count, size, size, 3)
    return pixels.permute(0, 3, 1, 2)
