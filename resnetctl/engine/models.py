"""The models that a user can name: a run's, a checkpoint's, published weights, or a file of weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from resnetctl.data import imagenet
from resnetctl.engine.device import choose_precision
from resnetctl.engine.inference import Model, in_use, load_model
from resnetctl.errors import CheckpointError, DataError, ResnetctlError, printable
from resnetctl.model import hub
from resnetctl.model.description import ModelDescription, description_in, file_metadata
from resnetctl.model.resnet import build_model
from resnetctl.model.weights import PUBLISHED, fill, load_weights, published_entry, read_weights
from resnetctl.recipe import ModelRecipe, Override, Recipe, change_recipe, load_recipe
from resnetctl.runs.checkpoint import Checkpoint, find_checkpoint, load_file
from resnetctl.runs.commits import METADATA_KEY
from resnetctl.runs.inventory import list_checkpoints
from resnetctl.runs.metadata import Metadata

Notice = Callable[[str], None]

_WEIGHTS = (".pth", ".pt")
_ARCH = "resnet50"
_PLAIN_RECIPE = "onepager"  # preprocessing of torchvision's first weights: 256, then the central 224, in fp32


@dataclass(frozen=True, kw_only=True)
class NamedModel:
    """A model and what is known about it."""

    name: str
    """As given by the user, or the run's name."""
    model: Model
    recipe: Recipe
    """Its preprocessing; for a run, everything it was trained with."""
    classes: tuple[str, ...]
    class_names: tuple[str, ...]
    path: Path | None = None
    """The file it was read from; None for published weights."""
    step: int | None = None
    """The step of a run's checkpoint."""
    val_fingerprint: str | None = None
    """Of the val images used in training; None if unknown."""
    published: tuple[float, float] | None = None
    """Published top-1 and top-5 on ImageNet's val images in percent."""
    changed: bool = False
    """Whether its preprocessing was changed from how it was trained or published."""
    metadata: Metadata | None = None
    """Of a run's checkpoint."""
    description: ModelDescription | None = None
    """Of an exported file."""
    weights: Literal["trained", "average", "raw"] = "trained"
    """For a run with a moving average of its weights: that, or the raw weights."""

    @property
    def title(self) -> str:
        """The name, and for a run its checkpoint and kind of weights."""
        step = "" if self.step is None else f", step {self.step:,}"
        return self.name + step + ", raw" * (self.weights == "raw")


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The options besides a model's name."""

    runs: Path
    device: torch.device
    classes: Callable[[], tuple[tuple[str, ...], tuple[str, ...]]]
    """Classes and names of the present data set, for weights that are not ImageNet's; may raise DataError."""
    arch: str | None = None
    """The network of weights (None: resnet50); a checkpoint specifies its own."""
    best: bool = False
    """For a run, the checkpoint with the highest top-1 instead of the newest."""
    raw: bool = False
    """For a run, the raw weights instead of their moving average."""
    size: int | None = None
    """Pixels of the crop; the size resized to before keeps its proportion. None: the recipe's."""
    overrides: tuple[Override, ...] = ()
    notice: Notice = lambda text: None
    warn: Notice = lambda text: None


def find_model(which: str | None, asked: Asked) -> NamedModel:
    """The model that `which` names: a run, its folder, a checkpoint, published weights or a weights file; None: latest.

    Raises CheckpointError, UsageError or ResnetctlError if there is none, or it cannot be used.
    """
    path = Path(which).expanduser() if which is not None else None
    if which is not None and path is not None and is_weights(which):
        if which in PUBLISHED:
            return _published(which, asked)
        return _from_hub(which, asked) if which.startswith(hub.PREFIX) else _weights(path, asked)
    if path is not None and path.suffix == ".safetensors":
        return _trained(path, load_file(path), asked)
    if asked.best:
        best = next((f for f in list_checkpoints(asked.runs, which) if f.best), None)
        if best is None:
            raise CheckpointError(
                "none of the run's checkpoints was evaluated, so there is no best one",
                hint="without --best the newest one is used; resnetctl checkpoint list shows them",
            )
        found = best.path, load_file(best.path)
    else:
        found = find_checkpoint(asked.runs, which, asked.warn)
    return _trained(*found, asked)


def is_weights(which: str) -> bool:
    """Whether `which` names weights: published ones, or a file without our checkpoint metadata."""
    path = Path(which).expanduser()
    if which in PUBLISHED or which.startswith(hub.PREFIX) or path.suffix in _WEIGHTS:
        return True
    metadata = file_metadata(path)
    return metadata is not None and METADATA_KEY not in metadata


def _as_asked(recipe: Recipe, asked: Asked) -> Recipe:
    overrides = list(asked.overrides)
    if asked.size is not None:
        resize = round(asked.size * recipe.data.val_resize / recipe.data.val_size)
        overrides[:0] = [
            Override("data.val_size", asked.size, "--size"),
            Override("data.val_resize", resize, "--size"),
        ]
    return change_recipe(recipe, overrides)


def _trained(path: Path, checkpoint: Checkpoint, asked: Asked) -> NamedModel:
    metadata = checkpoint.metadata
    recipe = _as_asked(metadata.recipe, asked)
    changed = Checkpoint(checkpoint.tensors, replace(metadata, recipe=recipe))
    in_a_run = path.parent.name == "checkpoints"
    averaged = bool(checkpoint.part("ema"))
    if asked.raw and not averaged:
        asked.notice(f"{printable(path)} has no moving average: --raw changes nothing")
    return NamedModel(
        name=path.resolve().parent.parent.name if in_a_run else path.name,
        path=path,
        model=load_model(changed, asked.device, asked.notice, raw=asked.raw),
        recipe=recipe,
        classes=metadata.classes,
        class_names=metadata.class_names,
        step=metadata.step,
        val_fingerprint=metadata.data.val,
        changed=recipe.data != metadata.recipe.data,
        metadata=metadata,
        weights=("raw" if asked.raw else "average") if averaged else "trained",
    )


def _published(weights: str, asked: Asked) -> NamedModel:
    """torchvision's weights with their published preprocessing."""
    arch = asked.arch or _ARCH
    network = build_model(ModelRecipe(arch=arch), imagenet.CLASSES)
    for text in load_weights(network, weights, arch, imagenet.CLASSES):
        asked.notice(text)
    entry = published_entry(weights, arch)
    look = entry.transforms()
    preset = [
        Override("data.val_resize", look.resize_size[0], weights),
        Override("data.val_size", look.crop_size[0], weights),
        Override("data.interpolation", look.interpolation.value, weights),
        Override("data.mean", tuple(look.mean), weights),
        Override("data.std", tuple(look.std), weights),
    ]
    metrics = entry.meta["_metrics"]["ImageNet-1K"]
    return _plain(
        f"{arch} {weights}",
        network,
        preset,
        asked,
        classes=imagenet.wnids(),
        class_names=imagenet.names_of(imagenet.wnids()),
        published=(metrics["acc@1"], metrics["acc@5"]),
    )


def _from_hub(weights: str, asked: Asked) -> NamedModel:
    """timm's weights with the preprocessing in their repository."""
    found = hub.hub_file(weights, asked.arch or _ARCH)
    while True:
        try:
            asked.notice(next(found))
        except StopIteration as end:
            path = end.value
            break
    preset = [Override(key, value, weights) for key, value in hub.look(path).items()]
    return replace(_weights(path, asked, preset), name=weights)


def _exported(path: Path, said: ModelDescription, asked: Asked) -> NamedModel:
    """A file with a description of its model."""
    state = read_weights(path)
    outputs = len(said.classes)
    if "fc.weight" in state and len(state["fc.weight"]) != outputs:
        raise ResnetctlError(
            f"{printable(path)} has {len(state['fc.weight']):,} outputs and names {outputs:,} classes",
            hint="it was changed after its export: export the run again",
        )
    network = build_model(said.model, outputs)
    for text in fill(network, state, path, outputs):
        asked.notice(text)
    values = {
        "model.arch": said.arch,
        "model.blurpool": said.blurpool,
        "model.blurpool_max": said.blurpool_max,
        "data.val_resize": said.preprocessing.resize,
        "data.val_size": said.preprocessing.crop,
        "data.interpolation": said.preprocessing.interpolation,
        "data.mean": said.preprocessing.mean,
        "data.std": said.preprocessing.std,
    }
    preset = [Override(key, value, path.name) for key, value in values.items()]
    names = {"classes": said.classes, "class_names": said.class_names}
    return _plain(str(path), network, preset, asked, path=path, description=said, **names)


def _weights(path: Path, asked: Asked, preset: Sequence[Override] = ()) -> NamedModel:
    """A weights file, with its own description, or ImageNet's classes if it has 1,000 outputs, or the data set's."""
    if (said := description_in(path)) is not None:
        return _exported(path, said, asked)
    state = read_weights(path)
    head = state.get("fc.weight")
    if head is None or head.dim() != 2:
        raise ResnetctlError(
            f"{printable(path)} has no fc.weight, the last layer of torchvision's ResNets",
            hint="weights need torchvision's names; --arch gives the network",
        )
    outputs = len(head)
    if outputs == imagenet.CLASSES:
        classes, names = imagenet.wnids(), imagenet.names_of(imagenet.wnids())
        if not preset:  # a file from the Hub, whose repository says what it is, comes with one
            asked.notice(f"{printable(path.name)} does not name its 1,000 classes: using ImageNet's")
    else:
        classes, names = _of_the_data_set(path, outputs, asked)
    network = build_model(ModelRecipe(arch=asked.arch or _ARCH), outputs)
    for text in fill(network, state, path, outputs):
        asked.notice(text)
    return _plain(str(path), network, list(preset), asked, path=path, classes=classes, class_names=names)


def _of_the_data_set(path: Path, outputs: int, asked: Asked) -> tuple[tuple[str, ...], tuple[str, ...]]:
    try:
        classes, names = asked.classes()
    except DataError:
        classes, names = (), ()
    if len(classes) != outputs:
        raise DataError(
            f"{printable(path)} has {outputs:,} outputs and does not name their classes",
            hint="give the data root it was trained on with --data",
        )
    asked.notice(f"{printable(path.name)} does not name its {outputs:,} classes: using the data set's")
    return classes, names


def _plain(name: str, network: nn.Module, preset: list[Override], asked: Asked, **known: Any) -> NamedModel:
    """A torchvision network, with `preset` and the user's overrides."""
    recipe = load_recipe(_PLAIN_RECIPE, overrides=[Override("model.arch", asked.arch or _ARCH, "--arch"), *preset])
    given = recipe
    recipe = _as_asked(recipe, asked)
    network = network.to(asked.device).to(memory_format=torch.channels_last).eval()
    precision = choose_precision(recipe.train.precision, asked.device)
    return NamedModel(
        name=name,
        model=in_use(network, recipe, asked.device, precision),
        recipe=recipe,
        changed=recipe.data != given.data,
        **known,
    )
