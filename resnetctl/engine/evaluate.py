"""Top-1, top-5 and loss over a split, every image counted exactly once."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from resnetctl.data.batches.eval import EvalBatches, eval_view
from resnetctl.data.batches.loader import load
from resnetctl.data.index import Index
from resnetctl.data.missing import missing_source
from resnetctl.distributed.agreement import Agreement
from resnetctl.distributed.group import ALONE, Group
from resnetctl.engine.device import keep_freed_memory
from resnetctl.engine.events import Evaluating
from resnetctl.engine.inference import Model
from resnetctl.errors import DataError, some
from resnetctl.recipe import Recipe
from resnetctl.suites.guesses import Guesses

_UNREADABLE_SHARE = 0.01
BATCH = {"cuda": 256}
"""Images in one forward pass, by kind of device; elsewhere 64."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """The counts of an evaluation."""

    correct1: int
    correct5: int
    """The label is among the five highest outputs (or all, if there are fewer classes)."""
    images: int
    loss: float
    """Mean cross-entropy over the readable images, without label smoothing; NaN if there are none."""
    unreadable: tuple[int, ...]
    """Unreadable samples, counted as wrong."""
    seconds: float
    guesses: Guesses | None = None
    """None unless requested."""

    @property
    def is_valid(self) -> bool:
        """Whether nearly all images could be read: else the result reflects the disk, not the model."""
        return len(self.unreadable) <= max(1, _UNREADABLE_SHARE * self.images)

    @property
    def top1(self) -> float:
        """Percent."""
        return 100 * self.correct1 / self.images

    @property
    def top5(self) -> float:
        """Percent."""
        return 100 * self.correct5 / self.images


def eval_batches(recipe: Recipe, index: Index, device: torch.device, group: Group = ALONE) -> EvalBatches:
    """The batches of `index` that this rank of `group` evaluates."""
    return EvalBatches(eval_view(recipe, index, eval_batch(device), group.rank, group.size))


def eval_batch(device: torch.device) -> int:
    """Images in one forward pass."""
    return BATCH.get(device.type, 64)


def evaluate(
    model: Model,
    batches: EvalBatches,
    *,
    workers: int,
    stopped: Callable[[], bool] = lambda: False,
    group: Group = ALONE,
    timeout: int = 0,
    guesses: bool = False,
) -> Iterator[Evaluating | Result]:
    """Yield progress, and last a Result; no Result where `stopped` turned true on any rank before the end.

    Each rank of `group` measures its own batches, and all get the Result of all, with `guesses` those of each image.
    A loader process that takes longer than `timeout` seconds for a batch is an error. The network keeps its mode.
    """
    began, device, network = time.perf_counter(), model.device, model.network
    keep_freed_memory(device)
    was_training = network.training
    network.eval()
    correct1: int | torch.Tensor = 0
    correct5: int | torch.Tensor = 0
    loss = torch.zeros((), dtype=torch.float64 if device.type != "mps" else torch.float32, device=device)
    seen, unreadable, kept = 0, [], _Kept(batches) if guesses else None
    total, agreement = len(batches.index), Agreement(group)
    loaded = load(batches, batches.items(), workers=workers, pin=device.type == "cuda", timeout=timeout)
    try:
        # ranks have the same number of batches or one fewer, and agree before each on a stop known before the previous
        for _ in range(-(-total // (batches.view.batch * group.size))):
            if agreement.later([stopped()])[0]:
                return
            batch = next(loaded, None)
            if batch is None:
                break
            with torch.inference_mode():
                logits = model.logits(batch.images)
                labels = batch.labels.to(device, non_blocking=True)
                top = logits.topk(min(5, logits.shape[1]))
                hits = top.indices == labels[:, None]
                correct1 += hits[:, 0].sum()
                correct5 += hits.any(1).sum()
                loss += cross_entropy(logits, labels, reduction="sum", ignore_index=-1)
                if kept:
                    kept.add(logits, top.values, top.indices, labels)
            unreadable += batch.unreadable.tolist()
            seen += len(labels)
            yield Evaluating(images=min(total, seen * group.size), total=total)
    finally:
        network.train(was_training)
    counts = group.all_gather((int(correct1), int(correct5), seen, float(loss), unreadable))
    right1, right5, images, losses, lost = zip(*counts, strict=True)
    bad = sorted(i for rank in lost for i in rank)
    assert sum(images) == total, (images, total)
    yield Result(
        correct1=sum(right1),
        correct5=sum(right5),
        images=total,
        loss=sum(losses) / (total - len(bad)) if len(bad) < total else math.nan,
        unreadable=tuple(bad),
        seconds=time.perf_counter() - began,
        guesses=kept.gathered(group) if kept else None,
    )


class _Kept:
    """This rank's guesses, kept on the device until the end, so that nothing waits for a copy."""

    def __init__(self, batches: EvalBatches) -> None:
        self.batches = batches
        self.labels: list[torch.Tensor] = []
        self.probabilities: list[torch.Tensor] = []

    def add(self, logits: torch.Tensor, values: torch.Tensor, indices: torch.Tensor, labels: torch.Tensor) -> None:
        """Add a batch: `[B, C]` outputs, their highest `[B, K]` and `[B]` labels, -1 for an unreadable image."""
        readable = labels[:, None] >= 0
        self.labels.append(torch.where(readable, indices, -1))
        self.probabilities.append(torch.where(readable, (values - logits.logsumexp(1, keepdim=True)).exp(), 0.0))

    def gathered(self, group: Group) -> Guesses:
        """The guesses of all ranks, in index order; every rank must call it."""
        index, size, mine = self.batches.index, self.batches.view.batch, None
        if self.labels:
            numbers = [np.arange(i * size, min((i + 1) * size, len(index))) for i in self.batches.items()]
            labels, probabilities = torch.cat(self.labels).cpu().numpy(), torch.cat(self.probabilities).cpu().numpy()
            mine = np.concatenate(numbers), labels, probabilities
        ranks = [part for part in group.all_gather(mine) if part is not None]
        order = np.argsort(np.concatenate([numbers for numbers, _, _ in ranks]))
        return Guesses(
            truth=index.label.astype(np.int64),
            labels=np.concatenate([labels for _, labels, _ in ranks])[order],
            probabilities=np.concatenate([probabilities for _, _, probabilities in ranks])[order],
        )


def why_invalid(result: Result, index: Index) -> DataError | None:
    """The error for a result with too many unreadable images; None for a valid one."""
    if result.is_valid:
        return None
    return missing_source(index) or DataError(
        f"{len(result.unreadable):,} of {result.images:,} {index.info.split} images cannot be read, such as "
        f"{some([index.name(i) for i in result.unreadable], 3)}: top-1 would be wrong",
        hint="resnetctl verify tells what is wrong with them",
    )
