"""The training resolution over a run: progressive resizing."""

from __future__ import annotations

from resnetctl.recipe import DataRecipe, TrainRecipe


def train_size(epoch: float, epochs: int, size: int, start: int, ramp: tuple[float, float]) -> int:
    """The training resolution in pixels at `epoch` (a fraction counts): progressive resizing.

    `start` until ramp[0] of the run, `size` from ramp[1] on, and in between a straight line rounded to multiples of
    32 (as FFCV's published ImageNet schedules, github.com/libffcv/ffcv-imagenet). `start` 0 means `size` throughout.
    """
    if not start or start == size:
        return size
    begin, end = ramp[0] * epochs, ramp[1] * epochs
    if epoch <= begin:
        return start
    if epoch >= end:
        return size
    wanted = start + (size - start) * (epoch - begin) / (end - begin)
    return int(min(max(start, size), max(min(start, size), round(wanted / 32) * 32)))


def size_at(step: int, images: int, data: DataRecipe, train: TrainRecipe) -> int:
    """The resolution of `step` (from 0) in pixels, for `images` train images: that of the epoch in which it begins."""
    return _size_of_epoch(step * train.global_batch // images, data, train)


def sizes_of_run(data: DataRecipe, train: TrainRecipe) -> list[int]:
    """Every resolution that a run has, in pixels, the largest first."""
    return sorted({_size_of_epoch(epoch, data, train) for epoch in range(train.epochs)}, reverse=True)


def _size_of_epoch(epoch: int, data: DataRecipe, train: TrainRecipe) -> int:
    return train_size(epoch, train.epochs, data.train_size, data.train_size_start, data.train_size_ramp)
