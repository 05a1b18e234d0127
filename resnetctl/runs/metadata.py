"""What a checkpoint says beside its tensors: written in one place, and checked there before it is believed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from resnetctl.errors import CheckpointError, printable
from resnetctl.recipe import Recipe, recipe_from_dict, recipe_to_dict
from resnetctl.runs.checkpoint import Checkpoint

_MOST = 1 << 53  # what JSON's readers agree on


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """One measurement of the validation split."""

    step: int
    epoch: float
    top1: float
    """Percent."""
    top5: float
    loss: float
    images: int


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """Where a run stood, what it was, and what it had measured."""

    step: int
    steps: int
    """Of the whole run."""
    epoch: float
    last_read: int
    """The step after which the loss was last read."""
    recipe: Recipe
    plain_torchvision_model: bool
    """Whether `model.*` means the same in torchvision's model of that name."""
    classes: tuple[str, ...]
    class_names: tuple[str, ...]
    train_fingerprint: str
    val_fingerprint: str | None
    train_images: int
    history: tuple[Evaluation, ...]
    unreadable: tuple[int, ...]
    """Train samples that could not be read."""
    environment: dict[str, str | int]
    """What can change the bits of a result besides recipe and data."""

    @property
    def best(self) -> Evaluation | None:
        """The evaluation with the highest top-1, the latest of equal ones."""
        return best_of(self.history)

    def to_json(self) -> dict[str, Any]:
        """As `read_metadata` takes it."""
        return {
            "step": self.step,
            "steps": self.steps,
            "epoch": self.epoch,
            "last_read": self.last_read,
            "recipe": recipe_to_dict(self.recipe),
            "plain_torchvision_model": self.plain_torchvision_model,
            "classes": list(self.classes),
            "class_names": list(self.class_names),
            "index": {"train": self.train_fingerprint, "val": self.val_fingerprint, "images": self.train_images},
            # JSON has no NaN: the loss of an evaluation may be one
            "history": [{**vars(e), "loss": e.loss if math.isfinite(e.loss) else None} for e in self.history],
            "unreadable": list(self.unreadable),
            "environment": self.environment,
        }


def best_of(history: tuple[Evaluation, ...] | list[Evaluation]) -> Evaluation | None:
    """The evaluation with the highest top-1, the latest of equal ones."""
    return max(history, key=lambda e: (e.top1, e.step), default=None)


def read_metadata(source: Checkpoint | Mapping[str, Any]) -> Metadata:
    """The metadata of a checkpoint, every value checked. Raises CheckpointError where one is missing or cannot be."""
    m = source.metadata if isinstance(source, Checkpoint) else source
    recipe = recipe_from_dict(m.get("recipe"))
    try:
        index = m["index"]
        metadata = Metadata(
            step=_whole(m, "step"),
            steps=_whole(m, "steps"),
            epoch=_number(m, "epoch"),
            last_read=_whole(m, "last_read"),
            recipe=recipe,
            plain_torchvision_model=_typed(m["plain_torchvision_model"], bool),
            classes=_texts(m, "classes"),
            class_names=_texts(m, "class_names"),
            train_fingerprint=_typed(index["train"], str),
            val_fingerprint=None if index["val"] is None else _typed(index["val"], str),
            train_images=_whole(index, "images"),
            history=tuple(_evaluation(e) for e in _typed(m["history"], list)),
            unreadable=tuple(_typed(n, int) for n in _typed(m["unreadable"], list)),
            environment={k: _typed(v, str, int) for k, v in _typed(m["environment"], dict).items()},
        )
        _check(metadata)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise CheckpointError(
            f"the checkpoint's metadata make no sense: {printable(what)[:200]}",
            hint="it was written by another version of resnetctl, or changed since",
        ) from error
    return metadata


def _check(m: Metadata) -> None:
    if not (m.last_read <= m.step <= m.steps) or not m.classes or len(m.class_names) != len(m.classes):
        raise ValueError("step, last_read, steps or the classes contradict each other")
    if any(e.step > m.step for e in m.history):
        raise ValueError("an evaluation lies after the last step")
    if not all(0 <= n < m.train_images for n in m.unreadable):
        raise ValueError("a sample that could not be read is none of the data set")


def _evaluation(entry: Any) -> Evaluation:
    return Evaluation(
        step=_whole(entry, "step"),
        epoch=_number(entry, "epoch"),
        top1=_number(entry, "top1", 100),
        top5=_number(entry, "top5", 100),
        loss=math.nan if entry["loss"] is None else _number(entry, "loss"),
        images=_whole(entry, "images"),
    )


def _typed(value: Any, *kinds: type) -> Any:
    if type(value) not in kinds:
        raise TypeError(f"{type(value).__name__} where {' or '.join(k.__name__ for k in kinds)} should be")
    return value


def _whole(entry: Any, name: str) -> int:
    value = entry[name]
    if type(value) is not int or not 0 <= value < _MOST:
        raise ValueError(f"{name} is not a count")
    return value


def _number(entry: Any, name: str, most: float = _MOST) -> float:
    value = entry[name]
    if type(value) not in (int, float) or not 0 <= value <= most:
        raise ValueError(f"{name} is not a number from 0 to {most}")
    return float(value)


def _texts(entry: Any, name: str) -> tuple[str, ...]:
    return tuple(_typed(text, str) for text in _typed(entry[name], list))
