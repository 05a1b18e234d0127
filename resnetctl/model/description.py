"""The description of an exported model in its file's metadata: the same JSON document in every format."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from resnetctl.errors import ResnetctlError, printable
from resnetctl.recipe import ModelRecipe
from resnetctl.typed_json import decode, encode

KEY = "resnetctl.model"
"""The document's name in the metadata of a safetensors or ONNX file, or in a torch.export archive."""


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """Preprocessing of an RGB image: resize, crop, scale to [0, 1], subtract the mean, divide by the deviation."""

    resize: int
    """Pixels of the shorter side after resizing, with antialias."""
    crop: int
    """Pixels of the central square crop."""
    interpolation: str
    """"bilinear" or "bicubic"."""
    mean: tuple[float, float, float]
    """Of red, green and blue in [0, 1]."""
    std: tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """The model's last result on the val images of its data set."""

    images: int
    top1: float
    """Percent."""
    top5: float | None


@dataclass(frozen=True, kw_only=True)
class ModelDescription:
    """The network, its classes, and its preprocessing."""

    arch: str
    """torchvision's name of the network, before any modification named here."""
    blurpool: bool
    blurpool_max: bool
    """As in the recipe: with either, the network is not torchvision's."""
    classes: tuple[str, ...]
    """Such as names of class folders, one per output."""
    class_names: tuple[str, ...]
    """Readable names."""
    preprocessing: Preprocessing
    source: str
    """The run and its step, or the file or weights that the model came from."""
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
        """The network's name, which is torchvision's only if the network is."""
        return self.arch + ("-blurpool-max" if self.blurpool_max else "-blurpool" if self.blurpool else "")

    @property
    def model(self) -> ModelRecipe:
        """The recipe section that builds the network."""
        return ModelRecipe(arch=self.arch, blurpool=self.blurpool, blurpool_max=self.blurpool_max)

    def to_text(self) -> str:
        """The text that `read_description` reads: JSON in ASCII, whatever the class names."""
        return json.dumps({"network": self.network, **encode(self)}, ensure_ascii=True)


def read_description(text: str, path: Path) -> ModelDescription:
    """The inverse of `to_text`, from the file at `path`. Raises ResnetctlError if it is invalid."""
    try:
        document = json.loads(text)
        if isinstance(document, dict):
            document.pop("network", None)  # for people: it follows from the rest
        return decode(ModelDescription, document, "the description")
    except (ValueError, RecursionError) as error:
        raise ResnetctlError(
            f"{printable(path)} has an invalid description of its model: {printable(error)[:200]}",
            hint="it was exported by another version of resnetctl, or changed afterwards: export the run again",
        ) from None


def file_metadata(path: Path) -> dict[str, str] | None:
    """The metadata of the safetensors file at `path`; None if it is not such a file, or damaged."""
    from safetensors import SafetensorError, safe_open

    if path.suffix != ".safetensors":
        return None
    try:
        with safe_open(path, "pt") as file:
            return file.metadata() or {}
    except (SafetensorError, OSError):
        return None  # reading its tensors reports what is wrong


def description_in(path: Path) -> ModelDescription | None:
    """The description in the safetensors file at `path`; None if it has none, or is not such a file."""
    text = (file_metadata(path) or {}).get(KEY)
    return None if text is None else read_description(text, path)
