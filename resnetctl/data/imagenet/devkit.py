"""Reads ImageNet's devkit: the classes, their numbers of train images, and the labels of the val images."""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from resnetctl.data import imagenet
from resnetctl.data.archives.reader import of_bytes
from resnetctl.data.archives.tar import tar_members
from resnetctl.data.imagenet import matlab
from resnetctl.errors import DataError, cannot_read, printable

_META = "data/meta.mat"
_TRUTH = "data/ILSVRC2012_validation_ground_truth.txt"
_MAX_BYTES = 256 << 20  # of the unpacked devkit; the real one has a few MiB


@dataclass(frozen=True, kw_only=True)
class Devkit:
    """The devkit's classes, in label order (sorted by wnid, not by the devkit's own ids)."""

    wnids: tuple[str, ...]
    names: tuple[str, ...]
    """Each class's first word, such as `tench`."""
    train_counts: tuple[int, ...] | None
    """Expected train images per class; None if the devkit does not say."""
    val_labels: np.ndarray
    """Label of each val image, `[N] int64`, in the order of their numbers."""


def read_devkit(path: Path) -> Devkit:
    """Read the devkit's `.tar.gz`. Raises DataError if it is damaged or contradicts itself."""
    files = _unpack(path)
    try:
        synsets = matlab.read_struct(files[_META], "synsets")
        # the 1,000 classes are the leaves of the tree; the other synsets are their ancestors
        leaves = sorted((_leaf(s) for s in synsets if int(s["num_children"][0]) == 0), key=lambda leaf: leaf[1])
        truth = [int(line) for line in files[_TRUTH].split()]
    except (KeyError, ValueError, TypeError, IndexError, OverflowError) as error:
        raise _damaged(path, printable(error)) from error
    wnids = tuple(wnid for _, wnid, _, _ in leaves)
    ids = [number for number, _, _, _ in leaves]
    if not leaves or len(set(wnids)) < len(wnids) or len(set(ids)) < len(ids):
        raise _damaged(path, "no classes, or a duplicate one")
    label_of_id = {number: label for label, number in enumerate(ids)}
    unknown = sorted(set(truth) - label_of_id.keys())
    if unknown or not truth:
        raise _damaged(
            path, f"the ground truth has the id {unknown[0]}, which is not a class" if unknown else "no ground truth"
        )
    counts = tuple(count for _, _, _, count in leaves)
    return Devkit(
        wnids=wnids,
        names=tuple(name for _, _, name, _ in leaves),
        train_counts=counts if all(counts) else None,
        val_labels=np.array([label_of_id[number] for number in truth], np.int64),
    )


def _leaf(synset: dict[str, Any]) -> tuple[int, str, str, int]:
    """Id, wnid, name and number of train images of a class."""
    wnid = str(synset["WNID"])
    if not imagenet.WNID.fullmatch(wnid):
        raise ValueError(f"{wnid} is not a wnid")
    name = str(synset["words"]).split(",")[0].strip() or wnid
    count = synset.get("num_train_images")
    return int(synset["ILSVRC2012_ID"][0]), wnid, name, int(count[0]) if count is not None and len(count) else 0


def _unpack(path: Path) -> dict[str, bytes]:
    """The two files needed, by the end of their names."""
    try:
        with gzip.open(path) as packed:
            data = packed.read(_MAX_BYTES + 1)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise _damaged(path, printable(error)) from error
    except OSError as error:
        raise cannot_read(path, error) from error
    if len(data) > _MAX_BYTES:
        raise _damaged(path, "it unpacks to more than 256 MiB")
    files = {}
    for member in tar_members(of_bytes(data), 0, len(data), str(path), folders=True):
        for wanted in (_META, _TRUTH):
            if member.name == wanted or member.name.endswith("/" + wanted):
                files[wanted] = data[member.offset : member.offset + member.size]
    for wanted in (_META, _TRUTH):
        if wanted not in files:
            raise _damaged(path, f"it has no {wanted}")
    return files


def _damaged(path: Path, why: str) -> DataError:
    return DataError(
        f"{printable(path)} is not ImageNet's devkit, or damaged: {why}",
        hint=f"its md5 should be {imagenet.DEVKIT.md5}; get it again from image-net.org",
    )
