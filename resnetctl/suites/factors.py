"""ImageNet-X: how much more often a model errs if the object's pose, background, pattern, … is unusual.

Idrissi et al., arXiv:2211.01866; the files are those of the package `imagenet-x` 0.0.7, one JSON object per line. The
measure is theirs: the error on images with a factor over the error on all annotated images. They exclude each class's
prototypes, which are listed in `prototypical_paths.csv` beside the annotations.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from resnetctl.errors import DataError, printable
from resnetctl.suites.statistics import Z, wilson_interval

FACTORS = (
    "pose",
    "background",
    "pattern",
    "color",
    "smaller",
    "shape",
    "partial_view",
    "subcategory",
    "texture",
    "larger",
    "darker",
    "object_blocking",
    "person_blocking",
    "style",
    "brighter",
    "multiple_objects",
)
_FILE = "imagenet_x_val_top_factor.jsonl"
_PROTOTYPES = "prototypical_paths.csv"


class Annotations(NamedTuple):
    """The annotations of images."""

    labels: Mapping[str, int]
    """File name to ImageNet's label."""
    factors: Mapping[str, frozenset[str]]
    """File name to the image's factors."""
    missing: tuple[str, ...]
    """Factors missing from the file."""
    prototypes: int | None
    """Images excluded as prototypes; None if their list is not beside the file."""


class Factor(NamedTuple):
    """A model's errors on the images with one factor."""

    name: str
    images: int
    wrong: int
    error: float
    """Percent."""
    interval: tuple[float, float]
    """95 % interval of the error, percent."""
    ratio: float | None
    """The error over the error on all annotated images; None without any error."""
    ratio_interval: tuple[float, float] | None
    """95 % interval of the ratio; None if undefined (no errors, or only errors)."""


class FactorResult(NamedTuple):
    """Errors by factor."""

    factors: tuple[Factor, ...]
    """Factors with images, highest ratio first."""
    absent: tuple[str, ...]
    """Factors without an image."""
    images: int
    """Annotated images evaluated."""
    wrong: int
    unannotated: int
    """Val images that are not in the file."""
    elsewhere: int
    """Annotated images that are not among the val images."""


def read_annotations(path: Path) -> Annotations:
    """The annotations in the file `path`, or in the folder of the package's files; DataError if there are none."""
    path = path / _FILE if path.is_dir() else path
    hint = f"ImageNet-X's files are in the package imagenet-x: annotations/{_FILE}"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        listed = path.with_name(_PROTOTYPES)
        prototypes = set(listed.read_text(encoding="utf-8").split()) if listed.is_file() else None
    except OSError as error:
        raise DataError(f"cannot read {printable(path)}: {error.strerror}", hint=hint) from error
    except UnicodeDecodeError as error:
        raise DataError(f"{printable(path)} is not text", hint=hint) from error
    labels: dict[str, int] = {}
    factors: dict[str, frozenset[str]] = {}
    seen: set[str] = set()
    left_out = 0
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        name, label, row = _row(path, number, line, hint)
        if name in labels:
            raise DataError(f"{printable(path)}: line {number:,} repeats {printable(name)}")
        if prototypes is not None and name in prototypes:
            left_out += 1
            continue
        labels[name], factors[name] = label, frozenset(f for f in FACTORS if row.get(f) == 1)
        seen |= row.keys()
    if not labels:
        raise DataError(f"{printable(path)} has no annotations", hint=hint)
    missing = tuple(f for f in FACTORS if f not in seen)
    return Annotations(labels, factors, missing, None if prototypes is None else left_out)


def _row(path: Path, number: int, line: str, hint: str) -> tuple[str, int, dict[str, Any]]:
    try:
        row = json.loads(line)
        name, label = row["file_name"], row["class"]
        known = all(row.get(f) in (None, 0, 1) for f in FACTORS)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        name, label, known = None, None, False
    if not isinstance(name, str) or type(label) is not int or not known:
        raise DataError(f"{printable(path)}: line {number:,} is not an annotation of ImageNet-X", hint=hint)
    return name, label, row


def measure_factors(
    annotations: Annotations, names: Sequence[str], own: np.ndarray, correct: np.ndarray
) -> FactorResult:
    """Errors by factor, of val images with file names `names [N]`, ImageNet labels `own [N]` and `correct [N] bool`.

    Raises DataError if the file annotates none of them, or gives them other classes.
    """
    here = [i for i, name in enumerate(names) if name in annotations.labels]
    if not here:
        first = next(iter(annotations.labels))
        raise DataError(
            f"ImageNet-X's file annotates none of the val images: it is about {printable(first)} and others",
            hint="the file for val is imagenet_x_val_top_factor.jsonl or imagenet_x_val_multi_factor.jsonl",
        )
    agreeing = sum(annotations.labels[names[i]] == own[i] for i in here)
    if agreeing < len(here):
        raise DataError(
            f"ImageNet-X gives another class to {len(here) - agreeing:,} of {len(here):,} val images",
            hint="the published file agrees with all of them: are the val labels in another order?",
        )
    wrong = np.array([not correct[i] for i in here], bool)
    members = {f: np.array([f in annotations.factors[names[i]] for i in here], bool) for f in FACTORS}
    found = [_factor(f, members[f], wrong) for f in FACTORS if members[f].any()]
    return FactorResult(
        factors=tuple(sorted(found, key=lambda f: -(f.ratio or 0))),
        absent=tuple(f for f in FACTORS if not members[f].any()),
        images=len(here),
        wrong=int(wrong.sum()),
        unannotated=len(names) - len(here),
        elsewhere=len(annotations.labels) - len(here),
    )


def _factor(name: str, member: np.ndarray, wrong: np.ndarray) -> Factor:
    inside, errors = int(member.sum()), int(wrong[member].sum())
    overall = float(wrong.mean())
    ratio = errors / inside / overall if overall else None
    return Factor(
        name=name,
        images=inside,
        wrong=errors,
        error=100 * errors / inside,
        interval=wilson_interval(errors, inside),
        ratio=ratio,
        ratio_interval=_ratio_interval(inside, errors, len(wrong), int(wrong.sum())),
    )


def _ratio_interval(inside: int, errors: int, images: int, wrong: int) -> tuple[float, float] | None:
    """95 % interval of (errors / inside) / (wrong / images), the first being a subset of the second.

    With p = w·f + (1 - w)·g, f and g the independent errors inside and outside and w = inside / images, the delta
    method gives var ln(f / p) = (1/f - w/p)² var f + ((1 - w)/p)² var g.
    """
    outside = images - inside
    if not errors or not outside:
        return None
    f, p, w = errors / inside, wrong / images, inside / images
    g = (wrong - errors) / outside
    variance = (1 / f - w / p) ** 2 * f * (1 - f) / inside + ((1 - w) / p) ** 2 * g * (1 - g) / outside
    if not variance:
        return None
    half = Z * math.sqrt(variance)
    return f / p * math.exp(-half), f / p * math.exp(half)
