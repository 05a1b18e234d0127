"""Evaluation suites besides val: other labels of its images, and other images of the same classes."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from resnetctl.errors import UsageError, did_you_mean, printable

SUITES = {
    "val": "the val images of the data set",
    "real": "ReaL's labels of ImageNet's val images: FILE is real.json",
    "x": "ImageNet-X, errors by factor on ImageNet's val images: FILE is imagenet_x_val_top_factor.jsonl or _multi_",
    "v2": "ImageNetV2: FOLDER has folders 0 to 999, or 1,000 wnids",
    "a": "ImageNet-A: FOLDER has 200 wnids, whose 200 outputs compete",
    "r": "ImageNet-R, likewise",
}
"""Name to description. The first three use the val images of the data set; the others have their own images."""

ON_VAL = ("val", "real", "x")


class Chosen(NamedTuple):
    """A suite, and the file or folder it is read from."""

    name: str
    path: Path | None
    """None for `val`, which is part of the data set."""


def parse_suite(text: str) -> Chosen:
    """`real=FILE`, `v2=FOLDER` and the like, or `val`. Raises UsageError if the name or the path is missing."""
    name, equals, path = text.partition("=")
    hint = f"--suite val, or --suite NAME=PATH with one of {', '.join(n for n in SUITES if n != 'val')}"
    if name not in SUITES:
        close = did_you_mean(name, tuple(SUITES))
        raise UsageError(f"unknown suite {printable(name)}" + (f": did you mean {close}?" if close else ""), hint=hint)
    if name == "val":
        if equals:
            raise UsageError("--suite val takes no path: its images are those of the data root (--data)", hint=hint)
        return Chosen(name, None)
    if not path:
        raise UsageError(f"--suite {name} needs a path: --suite {name}=PATH", hint=f"{name} is {SUITES[name]}")
    return Chosen(name, Path(path).expanduser())
