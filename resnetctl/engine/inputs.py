"""The network's inputs in training: images after all augmentation."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from resnetctl.data.batches.batch import Batch
from resnetctl.data.batches.encoded import load_train
from resnetctl.data.batches.mix import Mix, draw_mix, mix_images, mix_targets
from resnetctl.data.batches.train import TrainBatches, train_view
from resnetctl.data.index import Index
from resnetctl.engine.micro_batch import choose_micro_batch
from resnetctl.engine.normalise import Normalise, erase
from resnetctl.engine.timeline import Timeline
from resnetctl.recipe import Recipe


def network_input(
    batch: Batch, normalise: Normalise, classes: int, mix: Mix | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """`[B, 3, S, S] float32` images, normalised, erased and mixed; and their labels, `[B, classes]` if mixed.

    `batch` is already on the device.
    """
    images, targets = normalise(batch.images), batch.labels
    if len(batch.erased):
        erase(images, batch.erased)
    if mix:
        images, targets = mix_images(images, mix), mix_targets(targets, classes, mix)
    return images, targets


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What the network sees in the first micro-batch of a step, on the first device."""

    step: int
    """From 0."""
    epoch: float
    size: int
    """Pixels."""
    mixed: str | None
    """How they are mixed, in words; None if not."""
    names: tuple[str, ...]
    """Of the samples, in micro-batch order."""
    images: np.ndarray
    """`[N, S, S, 3] uint8`: the first N images."""
    targets: np.ndarray
    """`[N, classes] float32`: the share of each class, before label smoothing."""


def seen(
    recipe: Recipe, index: Index, device: torch.device, steps: Sequence[int], most: int, micro_batch: int | None = None
) -> list[Seen]:
    """The first `most` images of each of `steps`, as `recipe` trains on `index`; the same on any number of devices.

    They come from training's own loader, draws and arithmetic. Which images are mixed with each other depends on the
    `micro_batch` (None: as on this device alone).
    """
    view = train_view(recipe, index, micro_batch or choose_micro_batch(recipe, device, 1))
    batches, normalise = TrainBatches(view), Normalise(recipe.data.mean, recipe.data.std, device)
    timeline, classes = Timeline(recipe=recipe, images=len(index)), len(index.info.classes)
    items = [step * view.micro_batches for step in steps]
    found = []
    loaded = load_train(batches, items, device=device, workers=0, timeout=recipe.data.timeout_seconds)
    for step, item, batch in zip(steps, items, loaded, strict=True):
        on_device = Batch(*(tensor.to(device) for tensor in batch))
        mix = draw_mix(recipe.train, step, 0, batch.images.shape[-1])
        images, targets = network_input(on_device, normalise, classes, mix)
        if not mix:
            targets = torch.nn.functional.one_hot(targets, classes)
        found.append(
            Seen(
                step=step,
                epoch=timeline.epoch(step),
                size=timeline.size(step),
                mixed=_in_words(mix) if mix else None,
                names=tuple(index.name(int(i)) for i in batches.samples(item).sample[:most]),
                images=normalise.undo(images[:most]).permute(0, 2, 3, 1).cpu().numpy(),
                targets=targets[:most].float().cpu().numpy(),
            )
        )
    return found


def telling_steps(recipe: Recipe, images: int) -> list[int]:
    """The first two steps of a run, and the first one at its final resolution if that changes."""
    timeline = Timeline(recipe=recipe, images=images)
    final = bisect_left(range(timeline.steps), timeline.size(timeline.steps - 1), key=timeline.size)  # it only grows
    return sorted({*range(min(2, timeline.steps)), final})


def _in_words(mix: Mix) -> str:
    return f"{'mixup' if mix.box is None else 'cutmix'}, {100 * mix.share:.0f} % of each image its own"
