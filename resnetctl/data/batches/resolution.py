"""The training resolution over a run: progressive resizing."""

from __future__ import annotations

from resnetctl.recipe import DataRecipe, TrainRecipe


def train_size(epoch: float, data: DataRecipe, train: TrainRecipe) -> int:
    """The training resolution in pixels at `epoch` (a fraction counts).

    `train_size_start` up to the ramp, `train_size` after it, and in between a straight line rounded to
    `train_size_multiple`, as in FFCV's ImageNet schedules (github.com/libffcv/ffcv-imagenet).
    """
    start, size, multiple = data.train_size_start, data.train_size, data.train_size_multiple
    if not start or start == size:
        return size
    begin, end = (part * train.epochs + data.train_size_ramp_shift for part in data.train_size_ramp)
    if epoch <= begin:
        return start
    if epoch >= end:
        return size
    wanted = start + (size - start) * (epoch - begin) / (end - begin)
    return int(min(size, max(start, round(wanted / multiple) * multiple)))


def size_at(step: int, images: int, data: DataRecipe, train: TrainRecipe) -> int:
    """The resolution of `step` (from 0) in pixels, for `images` train images, by the epoch in which it begins."""
    return train_size(step * train.global_batch // images, data, train)


def sizes_of_run(data: DataRecipe, train: TrainRecipe) -> list[int]:
    """Every resolution of a run in pixels, largest first."""
    return sorted({train_size(epoch, data, train) for epoch in range(train.epochs)}, reverse=True)
