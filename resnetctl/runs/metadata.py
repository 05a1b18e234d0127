"""A checkpoint's metadata: written and validated in one place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from resnetctl.errors import CheckpointError, printable
from resnetctl.recipe import Recipe, recipe_from_dict, recipe_to_dict
from resnetctl.typed_json import decode, encode


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """One measurement of the validation split."""

    step: int
    epoch: float
    top1: float
    """Percent."""
    top5: float
    loss: float | None
    """None if not finite, or if too few images could be read; such an evaluation does not count."""
    images: int
    raw_top1: float | None = None
    """Percent, of the weights themselves, if the figures above are those of their moving average."""

    def __post_init__(self) -> None:
        if not (0 <= self.top1 <= 100 and 0 <= self.top5 <= 100 and self.epoch >= 0 and self.images >= 0):
            raise ValueError("an evaluation holds an impossible number")


@dataclass(frozen=True, kw_only=True)
class TrainedOn:
    """The data set of a run."""

    train: str
    """The fingerprint of the train index."""
    val: str | None
    images: int
    """Of the train split."""


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """A run's progress, configuration and results so far."""

    step: int
    steps: int
    """Of the whole run."""
    epoch: float
    last_read: int
    """The step after which the loss was last read."""
    recipe: Recipe = field(metadata={"json": None})
    plain_torchvision_model: bool
    """Whether torchvision's model of that name can use `model.*`."""
    classes: tuple[str, ...]
    class_names: tuple[str, ...]
    data: TrainedOn = field(metadata={"json": "index"})
    history: tuple[Evaluation, ...]
    unreadable: tuple[int, ...]
    """Train samples that could not be read."""
    environment: dict[str, str | int]
    """Everything but recipe and data that can change the bits of a result."""

    def __post_init__(self) -> None:
        if not 0 <= self.last_read <= self.step <= self.steps or self.epoch < 0:
            raise ValueError("step, last_read, steps or epoch contradict each other")
        if not self.classes or len(self.class_names) != len(self.classes):
            raise ValueError("the classes and their names contradict each other")
        if any(not 0 <= e.step <= self.step for e in self.history):
            raise ValueError("an evaluation lies after the last step")
        if not all(0 <= n < self.data.images for n in self.unreadable):
            raise ValueError("an unreadable sample is not in the data set")

    @property
    def best(self) -> Evaluation | None:
        """The evaluation with the highest top-1, the latest of equal ones."""
        return best_of(self.history)

    def to_json(self) -> dict[str, Any]:
        """The document that `read_metadata` reads."""
        return {**encode(self), "recipe": recipe_to_dict(self.recipe)}


def best_of(history: Sequence[Evaluation]) -> Evaluation | None:
    """The evaluation with the highest top-1, the latest of equal ones, among those that count."""
    return max((e for e in history if e.loss is not None), key=lambda e: (e.top1, e.step), default=None)


def read_metadata(document: object) -> Metadata:
    """The inverse of `Metadata.to_json`. Raises CheckpointError if a value is missing or impossible."""
    try:
        if not isinstance(document, dict) or "recipe" not in document:
            raise ValueError("the recipe is missing")
        rest = {k: v for k, v in document.items() if k != "recipe"}
        return decode(Metadata, rest, "metadata", recipe=recipe_from_dict(document["recipe"]))
    except CheckpointError:
        raise
    except ValueError as error:
        raise CheckpointError(
            f"the checkpoint's metadata are invalid: {printable(error)[:200]}",
            hint="it was written by another version of resnetctl, or changed afterwards",
        ) from error
