"""What an exported model says of itself, in the metadata of its file: the same JSON document in every format."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from resnetctl.errors import ResnetctlError, printable
from resnetctl.recipe import ModelRecipe
from resnetctl.typed_json import decode, encode

KEY = "resnetctl.model"
"""Under this name the document stands in the metadata of a safetensors or ONNX file, or in a torch.export archive."""


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """What is done to an RGB picture: resized, cropped, scaled to [0, 1], less the mean, over the deviation."""

    resize: int
    """Pixels of the shorter side after resizing, with antialias."""
    crop: int
    """Pixels of the central square cut out of it."""
    interpolation: str
    """How it is resized: "bilinear" or "bicubic"."""
    mean: tuple[float, float, float]
    """Of red, green and blue in [0, 1]."""
    std: tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """How good the model was when it was last measured, on the val images of its data set."""

    images: int
    top1: float
    """Percent."""
    top5: float | None


@dataclass(frozen=True, kw_only=True)
class ModelDescription:
    """Which network, for which classes, and how it is to be fed."""

    arch: str
    """torchvision's name of the network, before any change named here."""
    blurpool: bool
    blurpool_max: bool
    """As in the recipe: with either, the network is not torchvision's."""
    classes: tuple[str, ...]
    """Such as the names of class folders, one an output."""
    class_names: tuple[str, ...]
    """What people call them."""
    preprocessing: Preprocessing
    source: str
    """The run and its step, or the file or weights that it was made from."""
    recipe: str | None
    moving_average: bool
    """Whether the weights are the moving average of the trained ones."""
    measured: Measured | None
    written_by: str
    """resnetctl and its version."""

    def __post_init__(self) -> None:
        if not self.classes or len(self.class_names) != len(self.classes):
            raise ValueError("the classes and their names contradict each other")

    @property
    def network(self) -> str:
        """The network's name, which is torchvision's only where the network is, too."""
        return self.arch + ("-blurpool-max" if self.blurpool_max else "-blurpool" if self.blurpool else "")

    @property
    def model(self) -> ModelRecipe:
        """What builds the network."""
        return ModelRecipe(arch=self.arch, blurpool=self.blurpool, blurpool_max=self.blurpool_max)

    def to_text(self) -> str:
        """As `read_description` takes it: JSON in ASCII, whatever the classes are called."""
        return json.dumps({"network": self.network, **encode(self)}, ensure_ascii=True)


def read_description(text: str, path: Path) -> ModelDescription:
    """What `to_text` wrote into the file at `path`. Raises ResnetctlError if it makes no sense."""
    try:
        document = json.loads(text)
        if isinstance(document, dict):
            document.pop("network", None)  # for people: it follows from the rest
        return decode(ModelDescription, document, "the description")
    except (ValueError, RecursionError) as error:
        raise ResnetctlError(
            f"{printable(path)} describes its model in a way that makes no sense: {printable(error)[:200]}",
            hint="it was exported by another version of resnetctl, or changed since: export the run again",
        ) from None


def description_in(path: Path) -> ModelDescription | None:
    """What the safetensors file at `path` says of its model; None if it says nothing, or is no such file."""
    from safetensors import SafetensorError, safe_open

    if path.suffix != ".safetensors":
        return None
    try:
        with safe_open(path, "pt") as file:
            text = (file.metadata() or {}).get(KEY)
    except (SafetensorError, OSError):
        return None  # what is wrong with it is told where its tensors are read
    return None if text is None else read_description(text, path)
