"""A model's result on a suite: counts, and every guess if the suite has its own images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from resnetctl.data import imagenet
from resnetctl.data.index import Index
from resnetctl.errors import counted
from resnetctl.suites.classes import file_name, imagenet_labels, val_numbers
from resnetctl.suites.factors import FactorResult, measure_factors, read_annotations
from resnetctl.suites.guesses import Guesses
from resnetctl.suites.real import measure_real, read_real
from resnetctl.suites.statistics import Comparison, mcnemar
from resnetctl.suites.trouble import label_trouble


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One line of the result."""

    model: str
    suite: str
    """A key of SUITES."""
    images: int
    correct1: int
    correct5: int | None = None
    """None if the suite has no top-5."""
    loss: float | None = None
    """Mean cross-entropy; None if the suite has no loss."""
    seconds: float = 0.0
    unreadable: int = 0
    published: tuple[float, float] | None = None
    """Top-1 and top-5 in percent on these images, as published with the weights."""
    notes: tuple[str, ...] = ()
    """Properties of the suite, such as images that it does not count."""
    caveats: tuple[str, ...] = ()
    """Why the result is not comparable with others."""
    index: Index | None = None
    """The images; None if they are another outcome's."""
    guesses: Guesses | None = None
    """The guesses for each of them."""
    factors: FactorResult | None = None

    @property
    def top1(self) -> float:
        """Percent."""
        return 100 * self.correct1 / self.images if self.images else 0.0

    @property
    def top5(self) -> float | None:
        """Percent."""
        return None if self.correct5 is None else 100 * self.correct5 / self.images if self.images else 0.0


def is_imagenet_val(index: Index) -> bool:
    """Whether these are all of ImageNet's val images, for which results are published."""
    return index.info.classes == imagenet.wnids() and len(index) == imagenet.VAL_IMAGES


def trouble(outcome: Outcome) -> str | None:
    """A message on what seems wrong with the labels; None if nothing, or unknown."""
    index, guesses = outcome.index, outcome.guesses
    if index is None or guesses is None:
        return None
    return label_trouble(guesses.truth, guesses.labels[:, 0], len(index.info.classes))


def by_real(val: Outcome, path: Path) -> Outcome:
    """The outcome on the val images by ReaL's labels in the file at `path`. Raises DataError if they do not fit."""
    index, own, guesses = _as_imagenet(val, "real")
    result = measure_real(read_real(path), val_numbers(index, "real"), own, guesses)
    return Outcome(
        model=val.model,
        suite="real",
        images=result.images,
        correct1=result.correct1,
        correct5=result.correct5,
        notes=(f"{counted(result.skipped, 'image')} without a label left out",) if result.skipped else (),
    )


def by_factors(val: Outcome, path: Path) -> Outcome:
    """The outcome on the annotated val images, by the factors in the file at `path`. Raises DataError likewise."""
    index, own, guesses = _as_imagenet(val, "x")
    annotations = read_annotations(path)
    names = [file_name(index, i) for i in range(len(index))]
    result = measure_factors(annotations, names, own, guesses[:, 0] == own)
    notes, caveats = [], []
    if result.unannotated:
        notes.append(f"{counted(result.unannotated, 'val image')} without annotations left out")
    if result.absent:
        notes.append(f"no image has the factor {', '.join(result.absent)}")
    if result.elsewhere:
        caveats.append(f"{counted(result.elsewhere, 'annotated image')} not among the val images")
    if annotations.prototypes is None:
        caveats.append(
            "prototypes are counted: published results leave out those of prototypical_paths.csv, "
            "which is not beside the annotations"
        )
    return Outcome(
        model=val.model,
        suite="x",
        images=result.images,
        correct1=result.images - result.wrong,
        notes=tuple(notes),
        caveats=tuple(caveats),
        factors=result,
    )


def _as_imagenet(val: Outcome, suite: str) -> tuple[Index, np.ndarray, np.ndarray]:
    """The val images, their labels `[N]` and the guesses `[N, K]`, in ImageNet's numbering of classes."""
    assert val.index
    assert val.guesses
    label = imagenet_labels(val.index.info.classes, suite)
    guesses = np.where(val.guesses.labels >= 0, label[val.guesses.labels], -1)
    return val.index, label[val.guesses.truth], guesses


def compared(first: Outcome, second: Outcome) -> Comparison | None:
    """McNemar's test of two models on one suite; None if they did not see the same images with the same labels."""
    if first.index is None or second.index is None:
        return None
    if first.index.info.fingerprint != second.index.info.fingerprint:
        return None
    assert first.guesses
    assert second.guesses
    return mcnemar(first.guesses.correct, second.guesses.correct)
