"""Detects images that are gone since prepare: a disk may be unplugged, a folder moved."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np

from resnetctl.container import in_container
from resnetctl.data.index import Index
from resnetctl.errors import DataError, cannot_read, printable, some

_LOOKED_AT = 1000  # images, spread evenly
DEFAULT_ROOT = Path("data")
"""The data root without --data."""


def missing_source(index: Index) -> DataError | None:
    """The error for a split whose images are gone as a whole, or None; single images may still be unreadable.

    Checks the images' folder and each archive in it, or each class folder: a second at most.
    """
    hint = prepare_hint(index.path.parent)
    split, root = index.info.split, index.root
    try:
        if not _is_there(root):
            return DataError(f"the {split} images are gone: {printable(root)} no longer exists", hint=hint)
        gone = _archives(index) if index.offset.any() else _class_folders(index)
    except OSError as error:
        return cannot_read(error.filename or root, error)
    if not gone:
        return None
    return DataError(f"the {split} images are gone: {printable(root)} no longer has {some(gone, 3)}", hint=hint)


def prepare_hint(data_root: Path) -> str:
    """The hint for missing images of `data_root`."""
    elsewhere = "" if data_root == DEFAULT_ROOT else f" --data {shlex.quote(printable(data_root))}"
    if in_container():
        return f"mount them as for prepare (-v), or, if they were moved: resnetctl prepare SOURCE{elsewhere}"
    return f"mount the disk they are on, or, if they were moved: resnetctl prepare SOURCE{elsewhere}"


def _archives(index: Index) -> list[str]:
    """The missing containers of many samples."""
    used = np.unique(index.container).tolist()
    return [index.container_name(c) for c in used if not _is_there(index.container_path(c))]


def _class_folders(index: Index) -> list[str]:
    """The missing folders of each class's first image; or all images, if the folders are now empty."""
    _, first = np.unique(index.label, return_index=True)
    images = [index.container_name(int(index.container[i])) for i in first]
    folders = dict.fromkeys(image.rpartition("/")[0] for image in images)
    gone = [folder for folder in folders if not _is_there(index.root / folder)]
    if gone:
        return gone
    spread = np.linspace(0, len(index) - 1, min(len(index), _LOOKED_AT)).astype(np.int64)
    images = [index.container_name(int(index.container[i])) for i in spread]
    return [] if any(_is_there(index.root / image) for image in images) else images


def _is_there(path: Path) -> bool:
    """Raises OSError if that is unknown, as on a failing disk."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True
