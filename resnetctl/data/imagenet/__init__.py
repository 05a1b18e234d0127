"""Facts about ImageNet's 1,000 classes, ILSVRC2012: archives, counts, classes and val labels.

Russakovsky et al., ImageNet Large Scale Visual Recognition Challenge, arXiv:1409.0575; <https://image-net.org>.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from resnetctl.errors import printable, some

NAME = "imagenet-1k"
CLASSES = 1000
TRAIN_IMAGES, FEWEST_TRAIN, MOST_TRAIN = 1_281_167, 732, 1300  # in total, and per class
VAL_IMAGES, VAL_PER_CLASS = 50_000, 50


class Archive(NamedTuple):
    """A file that image-net.org serves. `size` in bytes, or None if only the md5 is known for certain."""

    name: str
    size: int | None
    md5: str


TRAIN_TAR = Archive("ILSVRC2012_img_train.tar", 147_897_477_120, "1d675b47d978889d74fa0da5fadfb00e")
VAL_TAR = Archive("ILSVRC2012_img_val.tar", 6_744_924_160, "29b22e2961454d5413ddabcf34fc5622")
DEVKIT = Archive("ILSVRC2012_devkit_t12.tar.gz", None, "fa75699e90414af021442c21a62c3abf")
ARCHIVES = (TRAIN_TAR, VAL_TAR, DEVKIT)

WNID = re.compile(r"n\d{8}")
TRAIN_FILE = re.compile(r"(n\d{8})_\d+\.JPEG")
VAL_FILE = re.compile(r"ILSVRC2012_val_(\d{8})\.JPEG")

ANCHOR_IDS = {1: 490, 2: 361, 3: 171, 4: 822, 5: 297, 6: 482, 7: 13, 8: 704, 9: 599, 10: 164}
"""Val image number to its id in the devkit's ground truth, which is not its label."""

HOW_TO_GET = """\
to start at once with 2,500 real images that come with resnetctl:
    resnetctl prepare --source sample
to train on ImageNet, get it (it has no anonymous download) and put the files into the data root:
    https://image-net.org/download         registered users: ILSVRC2012_img_train.tar, ILSVRC2012_img_val.tar
                                           and ILSVRC2012_devkit_t12.tar.gz, left as they are
    https://www.kaggle.com/c/imagenet-object-localization-challenge
    https://huggingface.co/datasets/ILSVRC/imagenet-1k
to train on your own images, sort them into train/<class>/ and val/<class>/, and give the folder, .zip or .tar:
    resnetctl prepare SOURCE"""


@cache
def _table() -> dict[str, str]:
    """Wnid to name, in label order, from the file beside this one."""
    text = (Path(__file__).parent / "classes.tsv").read_text(encoding="utf-8")
    rows = (line.split("\t") for line in text.splitlines() if not line.startswith("#"))
    return {row[0]: row[1] for row in rows}


@cache
def wnids() -> tuple[str, ...]:
    """The 1,000 wnids, sorted: the label is the position."""
    return tuple(_table())


@cache
def val_labels() -> np.ndarray:
    """Label of each of the 50,000 val images, `[50000] int64`, in the order of their numbers.

    The file beside this one holds them as 10 bits each, the highest first. They come from `validation_labels.txt` in
    TensorFlow Datasets 4.9.10 (Apache-2.0), and the 48,868 in ImageNet-X 0.0.7 agree with them.
    """
    packed = np.frombuffer((Path(__file__).parent / "val_labels.bin").read_bytes(), np.uint8)
    return np.unpackbits(packed).reshape(-1, 10).astype(np.int64) @ (1 << np.arange(9, -1, -1))


def names_of(classes: tuple[str, ...]) -> tuple[str, ...]:
    """Readable names: that of an ImageNet wnid, else the class itself."""
    return tuple(_table().get(c, c) for c in classes)


def meant_to_be_imagenet(classes: tuple[str, ...]) -> bool:
    """Whether these classes are ImageNet's, possibly with some missing.

    Well-known subsets (Imagenette, ImageNet-100) have at most a tenth of the classes.
    """
    return len(classes) >= 0.9 * CLASSES and len(set(classes) & _table().keys()) >= 0.9 * CLASSES


def differences(split: str, classes: tuple[str, ...], counts: np.ndarray) -> list[str]:
    """How a split with `counts [C]` images of `classes` differs from the published data set, as messages."""
    found = []
    missing = sorted(_table().keys() - set(classes))
    extra = [printable(c) for c in classes if c not in _table()]
    if missing:
        found.append(f"{split} lacks {some(missing)}")
    if extra:
        found.append(f"{split} has {some(extra)}, not an ImageNet class")
    total, fewest, most = (
        (TRAIN_IMAGES, FEWEST_TRAIN, MOST_TRAIN) if split == "train" else (VAL_IMAGES, VAL_PER_CLASS, VAL_PER_CLASS)
    )
    if counts.sum() != total:
        found.append(f"{split} has {counts.sum():,} of {total:,} images")
    wrong = np.flatnonzero((counts < fewest) | (counts > most))
    if len(wrong):
        usual = f"{fewest} to {most}" if fewest < most else str(most)
        found.append(f"not {usual} images in {some([f'{printable(classes[i])} ({counts[i]})' for i in wrong])}")
    return found
