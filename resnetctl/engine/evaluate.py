"""Top-1, top-5 and loss over a split, every image counted exactly once."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch.nn.functional import cross_entropy

from resnetctl.data.batches.eval import EvalBatches, eval_view
from resnetctl.data.batches.loader import load
from resnetctl.data.index import Index
from resnetctl.distributed.group import ALONE, Group
from resnetctl.engine.device import keep_freed_memory
from resnetctl.engine.events import Evaluating
from resnetctl.engine.inference import Model, load_model
from resnetctl.errors import DataError, printable
from resnetctl.recipe import Recipe
from resnetctl.runs.checkpoint import Checkpoint

BATCH = {"cuda": 256}
"""Images of one forward pass by the kind of device; elsewhere 64."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """What an evaluation counted."""

    correct1: int
    correct5: int
    """The label is among the five highest outputs (or among all, where there are fewer classes)."""
    images: int
    loss: float
    """Mean cross-entropy over the readable images, without label smoothing."""
    unreadable: tuple[int, ...]
    """Samples that could not be read: counted as wrong."""
    seconds: float

    @property
    def top1(self) -> float:
        """Percent."""
        return 100 * self.correct1 / self.images

    @property
    def top5(self) -> float:
        """Percent."""
        return 100 * self.correct5 / self.images


def wilson_interval(correct: int, images: int, z: float = 1.959964) -> tuple[float, float]:
    """The 95 % interval of a proportion in percent (Wilson 1927, JASA 22:209, formula 1)."""
    p, zz = correct / images, z * z / images
    centre, half = p + zz / 2, z * math.sqrt(p * (1 - p) / images + zz / (4 * images))
    return 100 * max(0.0, (centre - half) / (1 + zz)), 100 * min(1.0, (centre + half) / (1 + zz))


def eval_batches(recipe: Recipe, index: Index, device: torch.device, group: Group = ALONE) -> EvalBatches:
    """The batches that this rank of `group` measures on `index`."""
    return EvalBatches(eval_view(recipe, index, BATCH.get(device.type, 64), group.rank, group.size))


def evaluate(
    model: Model,
    batches: EvalBatches,
    *,
    workers: int,
    stopped: Callable[[], bool] = lambda: False,
    group: Group = ALONE,
    timeout: int = 0,
) -> Iterator[Evaluating | Result]:
    """Yield progress, and last a Result; no Result where `stopped` turned true on any rank before the end.

    Each rank of `group` measures its own batches, and all get the Result of all. A loader process that takes longer
    than `timeout` seconds for a batch is an error. The network is left in the mode it was in.
    """
    began, device, network = time.perf_counter(), model.device, model.network
    keep_freed_memory(device)
    was_training = network.training
    network.eval()
    correct1 = torch.zeros((), dtype=torch.int64, device=device)
    correct5 = torch.zeros_like(correct1)
    loss = torch.zeros((), dtype=torch.float64 if device.type != "mps" else torch.float32, device=device)
    seen, unreadable = 0, []
    total = len(batches.index)
    loaded = load(batches, batches.items(), workers=workers, pin=device.type == "cuda", timeout=timeout)
    try:
        # ranks have as many batches or one fewer, and agree on a stop before each
        for _ in range(-(-total // (batches.view.batch * group.size))):
            if group.all_max([stopped()])[0]:
                return
            batch = next(loaded, None)
            if batch is None:
                continue
            with torch.inference_mode():
                logits = model.logits(batch.images)
                labels = batch.labels.to(device, non_blocking=True)
                hits = logits.topk(min(5, logits.shape[1]), dim=1).indices == labels[:, None]
                correct1 += hits[:, 0].sum()
                correct5 += hits.any(1).sum()
                loss += cross_entropy(logits, labels, reduction="sum", ignore_index=-1)
            unreadable += batch.unreadable.tolist()
            seen += len(labels)
            yield Evaluating(images=min(total, seen * group.size), total=total)
    finally:
        network.train(was_training)
    counts = group.all_gather((int(correct1), int(correct5), seen, float(loss), unreadable))
    bad = sorted(i for rank in counts for i in rank[4])
    images = sum(rank[2] for rank in counts)
    assert images == total, (images, total)
    yield Result(
        correct1=sum(rank[0] for rank in counts),
        correct5=sum(rank[1] for rank in counts),
        images=images,
        loss=sum(rank[3] for rank in counts) / max(1, images - len(bad)),
        unreadable=tuple(bad),
        seconds=time.perf_counter() - began,
    )


def evaluate_checkpoint(
    checkpoint: Checkpoint, index: Index, *, device: torch.device, workers: int, notice: Callable[[str], None]
) -> Iterator[Evaluating | Result]:
    """Yield progress and last the Result of the checkpoint's model on `index`, as its recipe evaluates.

    Raises DataError where the index has other classes than the model, or in another order.
    """
    metadata = checkpoint.metadata
    check_classes(metadata.classes, index)
    if index.info.fingerprint != metadata.data.val:
        notice("these are not the val images that the run was evaluated on while it trained")
    return evaluate(
        load_model(checkpoint, device, notice),
        eval_batches(metadata.recipe, index, device),
        workers=workers,
        timeout=metadata.recipe.data.timeout_seconds,
    )


def check_classes(trained: tuple[str, ...], index: Index) -> None:
    """Raise DataError where `index` has other classes than the model was trained on, or in another order."""
    classes = index.info.classes
    if trained == classes:
        return
    if sorted(trained) == sorted(classes):
        raise DataError(
            "the model knows the same classes in another order: every label would be wrong",
            hint="run resnetctl prepare again with this version, then evaluate",
        )
    missing = [c for c in classes if c not in set(trained)]
    first = f", such as {printable(missing[0])}" if missing else ""
    raise DataError(
        f"the model was trained on {len(trained)} classes, and this data set has {len(classes)}"
        f" ({len(missing)} that the model does not know{first})",
        hint="give the data root that the model was trained on with --data",
    )
