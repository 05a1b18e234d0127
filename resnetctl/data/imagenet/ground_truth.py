"""Sources of labels for ImageNet's val images, whose file names do not tell them."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from resnetctl.data import imagenet
from resnetctl.data.imagenet.devkit import Devkit, read_devkit
from resnetctl.errors import DataError, cannot_read, printable

SOLUTION = "LOC_val_solution.csv"
SYNSETS = "LOC_synset_mapping.txt"
MAX_TEXT_BYTES = 256 << 20  # the real val solution has 4 MB, the train one 31 MB
TABLE_NOTE = (
    "the val labels are those of resnetctl's own table (from TensorFlow Datasets): "
    "neither the devkit nor " + SOLUTION + " was found"
)


@dataclass(frozen=True, kw_only=True)
class ValLabels:
    """The class of each val image."""

    wnids: Mapping[str, str]
    """File name without suffix, such as `ILSVRC2012_val_00000001`, to wnid."""
    note: str | None
    """A remark on their origin for the user."""

    def expected(self, classes: Sequence[str]) -> dict[str, Sequence[int]]:
        """Split to the expected images per class; nothing by our own table, of which people may hold a part."""
        if self.note:
            return {}
        position = {wnid: label for label, wnid in enumerate(classes)}
        labels = [position[wnid] for wnid in self.wnids.values() if wnid in position]
        return {"val": np.bincount(np.array(labels, np.int64), minlength=len(classes)).tolist()}


def from_devkit(devkit: Devkit) -> ValLabels:
    """The labels in the devkit."""
    wnids = {_stem(n): devkit.wnids[label] for n, label in enumerate(devkit.val_labels.tolist(), 1)}
    return ValLabels(wnids=wnids, note=None)


def from_table() -> ValLabels:
    """The labels in our own table."""
    classes = imagenet.wnids()
    wnids = {_stem(n): classes[label] for n, label in enumerate(imagenet.val_labels().tolist(), 1)}
    return ValLabels(wnids=wnids, note=TABLE_NOTE)


def _stem(number: int) -> str:
    return f"ILSVRC2012_val_{number:08d}"


def from_solution(content: bytes, what: str) -> ValLabels:
    """Kaggle's `ImageId,PredictionString`, where the wnid is the string's first token.

    Raises DataError if it has another form or names an image twice.
    """
    try:
        rows = list(csv.reader(io.StringIO(content.decode("utf-8-sig"))))
    except (UnicodeDecodeError, csv.Error) as error:
        raise _damaged(what, printable(error)) from error
    if not rows or rows[0] != ["ImageId", "PredictionString"]:
        raise _damaged(what, "it does not begin with ImageId,PredictionString")
    wnids: dict[str, str] = {}
    for number, row in enumerate(rows[1:], 2):
        wnid = row[1].split(" ")[0] if len(row) == 2 else ""
        if not imagenet.WNID.fullmatch(wnid):
            raise _damaged(what, f"line {number:,} has no wnid")
        if row[0] in wnids:
            raise _damaged(what, f"it names {printable(row[0])} twice")
        wnids[row[0]] = wnid
    if not wnids:
        raise _damaged(what, "it has no images")
    return ValLabels(wnids=wnids, note=None)


def beside(folders: Sequence[Path]) -> ValLabels:
    """The labels in the first of `folders` that has Kaggle's solution or the devkit, else our own table."""
    for folder in folders:
        if (folder / SOLUTION).is_file():
            return from_solution(read_list(folder / SOLUTION), str(folder / SOLUTION))
        if (folder / imagenet.DEVKIT.name).is_file():
            return from_devkit(read_devkit(folder / imagenet.DEVKIT.name))
    return from_table()


def classes_beside(folders: Sequence[Path]) -> tuple[str, ...]:
    """The wnids in Kaggle's synset mapping, from the first of `folders` that has it, else ImageNet's 1,000."""
    for folder in folders:
        if (folder / SYNSETS).is_file():
            return synsets(read_list(folder / SYNSETS), str(folder / SYNSETS))
    return imagenet.wnids()


def synsets(content: bytes, what: str) -> tuple[str, ...]:
    """The wnids of Kaggle's `LOC_synset_mapping.txt`, sorted; each line is a wnid and its words."""
    wnids = [line.split(" ")[0] for line in content.decode("utf-8", "replace").splitlines()]
    if not wnids or len(set(wnids)) < len(wnids) or not all(map(imagenet.WNID.fullmatch, wnids)):
        raise _damaged(what, "a line does not begin with a wnid, or a wnid appears twice")
    return tuple(sorted(wnids))


def read_list(path: Path) -> bytes:
    """The content of a label list. Raises DataError if it cannot be read or is far too long."""
    try:
        if path.stat().st_size > MAX_TEXT_BYTES:
            raise _damaged(str(path), "it is far too long")
        return path.read_bytes()
    except OSError as error:
        raise cannot_read(path, error) from error


def _damaged(what: str, why: str) -> DataError:
    return DataError(f"{printable(what)} is damaged: {why}", hint="get it again from Kaggle")
