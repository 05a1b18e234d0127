"""Predictions for images outside any data set."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from resnetctl.data.batches.files import FileBatches, FileView, read_upright
from resnetctl.data.batches.loader import load
from resnetctl.engine.device import keep_freed_memory
from resnetctl.engine.evaluate import BATCH
from resnetctl.engine.inference import Model
from resnetctl.errors import DataError
from resnetctl.recipe import DataRecipe

TOP = 5
"""Number of classes reported per image."""


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """The most probable classes of one image."""

    file: str
    labels: tuple[int, ...]
    """Best first; empty if the image cannot be read."""
    probabilities: tuple[float, ...]
    """Of these labels, 0 to 1: the softmax of the model's outputs."""
    problem: str | None = None
    """Why the image cannot be read."""


def predict(model: Model, data: DataRecipe, files: Sequence[str], *, workers: int) -> Iterator[list[Prediction]]:
    """The predictions for `files`, a batch at a time and in their order.

    Images are preprocessed as in evaluation with `data`, upright by their EXIF. At most one batch is prefetched.
    """
    keep_freed_memory(model.device)
    batches = FileBatches(FileView(files=files, data=data, batch=BATCH.get(model.device.type, 64)))
    count = len(batches.items())
    loaded = load(
        batches,
        batches.items(),
        workers=min(workers, count) if count > 1 else 0,
        pin=model.device.type == "cuda",
        timeout=data.timeout_seconds,
    )
    done = 0
    for batch in loaded:
        with torch.inference_mode():
            shares = model.logits(batch.images).softmax(1)
            top = shares.topk(min(TOP, shares.shape[1]), dim=1)
        labels, probabilities = top.indices.tolist(), top.values.tolist()
        names = files[done : done + len(labels)]
        done += len(labels)
        yield [
            _unreadable(name) if known < 0 else Prediction(file=name, labels=tuple(k), probabilities=tuple(p))
            for name, known, k, p in zip(names, batch.labels.tolist(), labels, probabilities, strict=True)
        ]


def _unreadable(file: str) -> Prediction:
    """With the reason, found by reading it again."""
    problem = "cannot be read"
    try:
        read_upright(file)
    except DataError as error:
        problem = error.message
    return Prediction(file=file, labels=(), probabilities=(), problem=problem)
