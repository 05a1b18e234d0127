"""Evaluating a checkpoint: its model and its recipe, on an index."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from resnetctl.data.batches.eval import EvalBatches
from resnetctl.data.index import Index
from resnetctl.engine.device import choose_precision
from resnetctl.engine.evaluator import Result, evaluate
from resnetctl.engine.events import Evaluating
from resnetctl.engine.normalise import Normalise
from resnetctl.engine.views import eval_view
from resnetctl.errors import DataError, printable
from resnetctl.model.resnet import build_model
from resnetctl.runs.checkpoint import Checkpoint, CheckpointError, load_file, load_newest
from resnetctl.runs.folder import find_run
from resnetctl.runs.metadata import read_metadata


def find_checkpoint(root: Path, which: str | None, warn: Callable[[str], None]) -> tuple[Path, Checkpoint]:
    """The checkpoint file that `which` names, or the newest whole one of the run that it names (None: the latest)."""
    path = Path(which) if which is not None else None
    if path is not None and (path.is_file() or path.suffix == ".safetensors"):
        return path, load_file(path)
    run = find_run(root, which)
    commit, checkpoint = load_newest(
        run.checkpoints, lambda c, error: warn(f"{error.message}; taking the one before it")
    )
    return commit.path, checkpoint


def evaluate_checkpoint(
    checkpoint: Checkpoint, index: Index, *, device: torch.device, workers: int, notice: Callable[[str], None]
) -> Iterator[Evaluating | Result]:
    """Yield progress and last the Result of the checkpoint's model on `index`, as its recipe evaluates.

    Raises DataError where the index has other classes than the model, or in another order.
    """
    m = read_metadata(checkpoint)
    recipe = m.recipe
    _check_classes(list(m.classes), index)
    if index.info.fingerprint != m.val_fingerprint:
        notice("these are not the val images that the run was evaluated on while it trained")
    model = build_model(recipe.model, len(index.info.classes))
    _load(model, checkpoint)
    layout = torch.channels_last if recipe.train.channels_last else torch.contiguous_format
    model = model.to(device).to(memory_format=layout)
    return evaluate(
        model,
        EvalBatches(eval_view(recipe, index, device)),
        Normalise(recipe.data.mean, recipe.data.std, device),
        device=device,
        precision=_precision(recipe.train.precision, device, notice),
        flip_average=recipe.data.val_flip_average,
        workers=workers,
        timeout=recipe.data.timeout_seconds,
    )


def _precision(trained: str, device: torch.device, notice: Callable[[str], None]) -> torch.dtype:
    """That of the recipe, where this device has it."""
    if trained == "fp16" and device.type != "cuda":
        notice("the run computed in fp16, which needs a CUDA device: this is measured in fp32")
        return torch.float32
    return choose_precision(trained, device)


def _load(model: torch.nn.Module, checkpoint: Checkpoint) -> None:
    try:
        model.load_state_dict(checkpoint.part("model"), strict=True)
    except RuntimeError as error:
        raise CheckpointError(
            f"the checkpoint's tensors do not fit its own recipe: {str(error).splitlines()[0]}"
        ) from error


def _check_classes(trained: list[str], index: Index) -> None:
    classes = list(index.info.classes)
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
