"""Exports a model and checks it at once: the file is run by its own runtime and compared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from resnetctl import __version__
from resnetctl.data import imagenet
from resnetctl.data.dataset import load_dataset
from resnetctl.data.images.decode import centre, decode
from resnetctl.data.index import Index
from resnetctl.engine.measure import outputs_for
from resnetctl.engine.model_card import model_card
from resnetctl.engine.models import NamedModel
from resnetctl.errors import DataError, ResnetctlError, UsageError, printable, some
from resnetctl.files import staged
from resnetctl.model.description import Measured, ModelDescription, Preprocessing
from resnetctl.model.export import FromPixels, write_onnx, write_program, write_safetensors
from resnetctl.model.export_timm import FILES, check_timm, write_timm
from resnetctl.model.exported import Opened, open_exported
from resnetctl.model.resnet import build_model
from resnetctl.progress import Progress, silent

TOLERANCE = 1e-4
"""Largest difference of logits from the run's; relative to the largest logit if that is above 1."""

_BATCH = 32
_MADE_IMAGES = 8


@dataclass(frozen=True, kw_only=True)
class CheckImages:
    """The images for comparing an exported model with the original."""

    pixels: torch.Tensor
    """`[N, 3, S, S] uint8`."""
    labels: torch.Tensor | None = None
    """`[N] int64`, numbered like the model's outputs; None for synthetic images."""
    why_made: str | None = None
    """Why they are not from the data set."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """The result of the comparison."""

    runtime: str
    """The runtime that opened the file, with its version."""
    images: int
    of_val: bool
    """Whether they were val images; else synthetic ones."""
    correct: int | None
    """Correct predictions of the model; None for synthetic images."""
    correct_exported: int | None
    same_top1: int
    """Images with the same first class from both."""
    difference: float
    """The largest difference of a logit."""


@dataclass(frozen=True, kw_only=True)
class Exported:
    """An exported and checked model."""

    path: Path
    bytes: int
    description: ModelDescription
    check: Check


def export(
    model: NamedModel,
    kind: str,
    path: Path,
    images: CheckImages,
    *,
    from_pixels: bool = False,
    progress: Progress = silent,
) -> Exported:
    """Write `model`, which computes in float32 on the CPU, to `path` as `kind`, and compare it on `images`.

    `kind` is "safetensors", "timm", "onnx" or "torch-export"; with `from_pixels` the graphs of the last two normalise.
    What was at `path` is replaced, once the comparison is done: raises ResnetctlError with nothing changed where the
    exported model gives other outputs.
    """
    description = describe(model)
    if kind == "timm":
        check_timm(description)
        _check_folder(path)
    network: nn.Module = build_model(description.model, len(description.classes))
    network.load_state_dict(model.model.network.state_dict())
    network = network.eval().requires_grad_(False)
    if from_pixels:
        network = FromPixels(network, description.preprocessing.mean, description.preprocessing.std).eval()
    progress(f"writing {kind}", 0, None)
    with staged(path) as made:
        match kind:
            case "safetensors":
                write_safetensors(network, description, made)
            case "timm":
                write_timm(network, description, model_card(description, model.metadata, path.name), made)
            case "onnx":
                write_onnx(network, description, made)
            case "torch-export":
                write_program(network, description, made)
            case _:
                raise AssertionError(kind)
        opened = open_exported(kind, made, description)
        check = compare(model, opened, images, from_pixels=from_pixels, progress=progress)
        size = sum(f.stat().st_size for f in (made, *made.rglob("*")) if f.is_file())
    return Exported(path=path, bytes=size, description=description, check=check)


def _check_folder(path: Path) -> None:
    """Raise UsageError if the folder at `path` holds what no export wrote, which would be lost."""
    if not path.exists():
        return
    if not path.is_dir():
        raise UsageError(f"{printable(path)} is a file, and timm's form is a folder", hint="choose another --out")
    others = sorted(p.name for p in path.iterdir() if p.name not in FILES)
    if others:
        raise UsageError(
            f"{printable(path)} holds other files, which would be lost: {some(others)}", hint="choose another --out"
        )


def describe(model: NamedModel) -> ModelDescription:
    """The description for the exported file."""
    look, network, before = model.recipe.data, model.recipe.model, model.description
    return ModelDescription(
        arch=network.arch,
        blurpool=network.blurpool,
        blurpool_max=network.blurpool_max,
        classes=model.classes,
        class_names=model.class_names,
        preprocessing=Preprocessing(
            resize=look.val_resize,
            crop=look.val_size,
            interpolation=look.interpolation,
            mean=look.mean,
            std=look.std,
        ),
        # a path would reveal details of this machine
        source=before.source
        if before
        else model.path.name
        if model.path and model.name == str(model.path)
        else model.title,
        recipe=before.recipe if before else model.metadata.recipe.name if model.metadata else None,
        moving_average=before.moving_average if before else model.weights == "average",
        measured=before.measured if before else _measured(model),
        written_by=f"resnetctl {__version__}",
    )


def _measured(model: NamedModel) -> Measured | None:
    """The run's result for these exact weights, or the published one; None without either."""
    if model.published is not None and not model.changed:
        return Measured(images=imagenet.VAL_IMAGES, top1=model.published[0], top5=model.published[1])
    if model.metadata is None or model.changed:
        return None
    last = next((e for e in model.metadata.history if e.step == model.step and e.loss is not None), None)
    if last is None:
        return None
    if model.weights == "raw":
        return None if last.raw_top1 is None else Measured(images=last.images, top1=last.raw_top1, top5=None)
    return Measured(images=last.images, top1=last.top1, top5=last.top5)


# --- the comparison -------------------------------------------------------------------------------------------------


def check_images(model: NamedModel, data: Path, count: int, notice: Callable[[str], None]) -> CheckImages:
    """`count` val images of the data set in `data`, evenly spread; synthetic ones if it has none for this model."""
    try:
        index = load_dataset(data).val()
        outputs = outputs_for(model, index, notice)
        found = _of_val(model, index, outputs, count)
    except DataError as error:
        return CheckImages(pixels=_made(model.recipe.data.val_size), why_made=error.message)
    return found


def _of_val(model: NamedModel, index: Index, outputs: list[int] | None, count: int) -> CheckImages:
    look = model.recipe.data
    images, labels = [], []
    for i in torch.linspace(0, len(index) - 1, min(count, len(index)), dtype=torch.float64).round().long().tolist():
        try:
            images.append(centre(decode(index.read(i)), look.val_resize, look.val_size, look.interpolation))
        except DataError:
            continue
        label = int(index.label[i])
        labels.append(label if outputs is None else outputs[label])
    if not images:
        raise DataError(f"none of the val images in {printable(index.path.parent)} can be read")
    return CheckImages(pixels=torch.stack(images).contiguous(), labels=torch.tensor(labels))


def _made(size: int) -> torch.Tensor:
    """Colour gradients with noise, the same each time."""
    generator = torch.Generator().manual_seed(0)
    line = torch.linspace(0, 1, size)
    ends = torch.rand(_MADE_IMAGES, 3, 4, 1, 1, generator=generator)
    smooth = ends[:, :, 0] * line[:, None] + ends[:, :, 1] * (1 - line[:, None]) + ends[:, :, 2] * line
    noise = torch.rand(_MADE_IMAGES, 3, size, size, generator=generator) * ends[:, :, 3]
    return ((smooth + noise) / 4 * 255).clamp(0, 255).to(torch.uint8)


def compare(
    model: NamedModel, opened: Opened, images: CheckImages, *, from_pixels: bool, progress: Progress = silent
) -> Check:
    """Compare an exported model's outputs with those of `model`. Raises ResnetctlError if they differ."""
    reference = replace(model.model, flip_average=False)
    ours, theirs = [], []
    total = len(images.pixels)
    for batch in (images.pixels[:1], *images.pixels[1:].split(_BATCH)):  # a single image too: batches may have any size
        if not len(batch):
            continue
        with torch.inference_mode():
            ours.append(reference.logits(batch))
            taken = batch if from_pixels else reference.normalise(batch)
        theirs.append(opened.logits(taken.contiguous()))
        progress("checking", sum(map(len, theirs)), total)
    wanted, got = torch.cat(ours), torch.cat(theirs)
    if got.shape != wanted.shape:
        raise ResnetctlError(f"{opened.runtime} gives {list(got.shape)} outputs, not {list(wanted.shape)}")
    difference = float((got - wanted).abs().max())
    guessed, exported = wanted.argmax(1), got.argmax(1)
    labels = images.labels
    check = Check(
        runtime=opened.runtime,
        images=total,
        of_val=labels is not None,
        correct=None if labels is None else int((guessed == labels).sum()),
        correct_exported=None if labels is None else int((exported == labels).sum()),
        same_top1=int((guessed == exported).sum()),
        difference=difference,
    )
    # written so that a NaN fails
    if not difference <= TOLERANCE * max(1.0, float(wanted.abs().max())) or check.correct != check.correct_exported:
        raise ResnetctlError(
            f"{opened.runtime} computes other outputs from the exported model: they differ by up to {difference:.2g}, "
            f"and the first class is the same for {check.same_top1:,} of {total:,} images; nothing was written",
            hint="this is a bug of resnetctl or of that runtime: try another version of it, or another --format",
        )
    return check
