"""Batches of image files given by path, outside any data set."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.utils.data import Dataset

from resnetctl.data.archives import MAX_SAMPLE_BYTES
from resnetctl.data.batches.batch import Batch
from resnetctl.data.batches.eval import read_batch
from resnetctl.data.images.decode import decode
from resnetctl.data.images.orientation import orientation, turned
from resnetctl.errors import DataError
from resnetctl.recipe import DataRecipe


@dataclass(frozen=True, kw_only=True)
class FileView:
    """How image files are read: as evaluation reads a data set."""

    files: Sequence[str]
    data: DataRecipe
    batch: int


class FileBatches(Dataset[Batch]):
    """Batch `item` of the files in their order; the last one holds the rest. Labels are 0, or -1 as in `Batch`."""

    def __init__(self, view: FileView) -> None:
        self.view = view

    def items(self) -> range:
        """All the batches."""
        return range(-(-len(self.view.files) // self.view.batch))

    def __getitem__(self, item: int) -> Batch:
        view = self.view
        sample = range(item * view.batch, min((item + 1) * view.batch, len(view.files)))
        labels = torch.zeros(len(sample), dtype=torch.int64)
        return read_batch(sample, labels, view.data, lambda i: read_upright(view.files[i]))


def read_upright(path: str | Path) -> torch.Tensor:
    """The image in the file at `path`, `[3, H, W] uint8`, rotated upright according to its EXIF.

    Raises DataError if it cannot be read.
    """
    data = _read(path)
    return turned(decode(data), orientation(data))


def _read(path: str | Path) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(fd, "rb", buffering=0) as file:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise DataError("not a file")
            if status.st_size > MAX_SAMPLE_BYTES:
                raise DataError(f"{status.st_size:,} bytes, which no photograph has")
            return file.read(status.st_size + 1)  # reading more would allocate that much first
    except (OSError, ValueError) as error:  # ValueError: a path with a zero byte
        if isinstance(error, DataError):
            raise
        raise DataError(f"cannot be read: {getattr(error, 'strerror', None) or error}") from error
