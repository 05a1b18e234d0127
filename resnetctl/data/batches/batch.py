"""The batch that a loader yields, and the memory that holds it."""

from __future__ import annotations

import os
from typing import Any, NamedTuple
from weakref import finalize

import torch
from torch.utils.data import get_worker_info

from resnetctl.errors import ResnetctlError


class Batch(NamedTuple):
    """One batch from a loader."""

    images: torch.Tensor
    """`[B, 3, S, S] uint8`, channels last."""
    labels: torch.Tensor
    """`[B] int64`; -1 for an unreadable image, in evaluation only."""
    unreadable: torch.Tensor
    """`[K] int64`: samples that could not be read; training replaces them with others."""
    erased: torch.Tensor = torch.empty((0, 4), dtype=torch.int64)
    """`[B, 4] int64`: top, left, height, width of the box erased from each normalised image; or `[0, 4]`."""


_KEPT = 3  # batches a worker keeps in shared memory: one in use, one waiting, one being made
_kept: list[torch.Tensor] = []
"""This worker's buffers, `[bytes of the images + 1] uint8`; the last byte is 1 while a batch lies in them."""


def empty_images(count: int, size: int) -> torch.Tensor:
    """`[count, 3, size, size] uint8`, channels last; in a worker it lies in shared memory, which saves a copy."""
    n_bytes = count * size * size * 3
    pixels = torch.empty(n_bytes, dtype=torch.uint8) if get_worker_info() is None else _shared(n_bytes)
    return pixels.view(count, size, size, 3).permute(0, 3, 1, 2)


def _shared(n_bytes: int) -> torch.Tensor:
    """`[n_bytes] uint8` of shared memory, reusing a released batch's if possible: new pages cost 12 % of the time."""
    _kept[:] = [buffer for buffer in _kept if len(buffer) == n_bytes + 1]  # drop buffers of another resolution
    buffer = next((buffer for buffer in _kept if not buffer[-1]), None)
    if buffer is None:
        try:
            memory = torch.UntypedStorage._new_shared(n_bytes + 1)  # as torch's own default_collate does
        except RuntimeError as error:
            raise ResnetctlError(
                f"a loader worker got no shared memory for a batch: {error}",
                hint="is /dev/shm full (resnetctl info)? Docker gives 64 MiB by default: --shm-size=8g or --ipc=host; "
                "fewer --workers and a smaller train.micro_batch need less",
            ) from error
        buffer = torch.empty(0, dtype=torch.uint8).set_(memory)
        if len(_kept) < _KEPT:
            _kept.append(buffer)
    buffer[-1] = 1
    return buffer[:-1]


class Handover:
    """A batch on its way out of a worker, which reuses the images' memory once nothing refers to it."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch

    def pin_memory(self) -> Batch:
        """A copy in pinned memory, which DataLoader requests in its own thread."""
        pinned = Batch(*(tensor.pin_memory() for tensor in self.batch))
        self._last_byte().zero_()
        return pinned

    def take(self) -> Batch:
        """The batch; its images' memory is released with the last tensor that refers to it."""
        # every view of a tensor made from an array holds the array
        array = self.batch.images.permute(0, 2, 3, 1).numpy()
        finalize(array, _let_go, self._last_byte(), os.getpid()).atexit = False
        return self.batch._replace(images=torch.from_numpy(array).permute(0, 3, 1, 2))

    def _last_byte(self) -> torch.Tensor:
        return torch.empty(0, dtype=torch.uint8).set_(self.batch.images.untyped_storage())[-1]


def _let_go(last_byte: torch.Tensor, process: int) -> None:
    if os.getpid() == process:  # not in a fork, which refers to nothing
        last_byte.zero_()


def hand_over(batch: Any) -> Any:
    """What leaves a worker: a batch with images from `empty_images` as a Handover, anything else unchanged."""
    if not isinstance(batch, Batch) or not batch.images.is_shared():
        return batch
    has_last_byte = batch.images.untyped_storage().nbytes() == batch.images.numel() + 1
    return Handover(batch) if has_last_byte else batch
