"""Training batches: item number in, uint8 pictures and labels out.

An item is one micro-batch of one step on one rank, and what it holds follows from its number alone. The number of
workers, who fetches what, and where a run was resumed can therefore change nothing in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from resnetctl.data.batches.augment import draw, train_size
from resnetctl.data.batches.batch import Batch, empty_images
from resnetctl.data.batches.order import SUBSTITUTE, key, stream
from resnetctl.data.images import nvimgcodec
from resnetctl.data.images.decode import decode, resize
from resnetctl.data.index import Index, open_unchanged
from resnetctl.errors import DataError

_SUBSTITUTES = 16  # unreadable in a row before giving up


@dataclass(frozen=True, kw_only=True)
class TrainView:
    """How training looks at a data set; picklable, so that it reaches spawned workers too."""

    index: Path
    seed: int
    epochs: int
    global_batch: int
    micro_batch: int
    """Samples of one forward pass on one rank; divides the rank's share of the global batch."""
    size: int
    size_start: int
    size_ramp: tuple[float, float]
    crop_scale: tuple[float, float]
    crop_ratio: tuple[float, float]
    hflip: float
    interpolation: str
    decoder: str = "auto"
    """What `choose_decoder` chose."""
    rank: int = 0
    world_size: int = 1
    fingerprint: str | None = None
    """Of the index that the run began with; None: take it as it is."""

    def __post_init__(self) -> None:
        assert self.global_batch % self.world_size == 0
        assert self.global_batch // self.world_size % self.micro_batch == 0

    @property
    def micro_batches(self) -> int:
        """Micro-batches of a step on this rank."""
        return self.global_batch // self.world_size // self.micro_batch

    def size_at(self, step: int, count: int) -> int:
        """The resolution of `step` in pixels: that of the epoch in which it begins."""
        return train_size(step * self.global_batch // count, self.epochs, self.size, self.size_start, self.size_ramp)


class TrainBatches(Dataset[Batch]):
    """Micro-batch `item`: number `item % micro_batches` of step `item // micro_batches` on this rank."""

    def __init__(self, view: TrainView) -> None:
        self.view = view
        self._index: Index | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"view": self.view, "_index": None}

    @property
    def index(self) -> Index:
        """The index, mapped on first use in each process."""
        if self._index is None:
            self._index = open_unchanged(self.view.index, self.view.fingerprint)
        return self._index

    def samples(self, item: int) -> tuple[np.ndarray, np.ndarray]:
        """`(epoch [B] int64, sample [B] int64)` of a micro-batch."""
        view = self.view
        step, micro = divmod(item, view.micro_batches)
        share = view.global_batch // view.world_size
        start = step * view.global_batch + view.rank * share + micro * view.micro_batch
        return stream(view.seed, len(self.index), start, start + view.micro_batch)

    def __getitem__(self, item: int) -> Batch:
        view, index = self.view, self.index
        epoch, sample = self.samples(item)
        draws = self._draw(epoch, sample, index.height[sample], index.width[sample])
        size = view.size_at(item // view.micro_batches, len(index))
        images = empty_images(len(sample), size)
        labels = index.label[sample].astype(np.int64)
        unreadable: list[int] = []
        for n in range(len(sample)):
            box, flip = draws.box[n], draws.flip[n]
            pixels, used, cut = self._readable(int(epoch[n]), int(sample[n]), box, unreadable)
            labels[n] = index.label[used]
            if not cut:
                h, w = pixels.shape[1:]
                if used != sample[n] or (h, w) != (index.height[used], index.width[used]):
                    again = self._draw(epoch[n : n + 1], sample[n : n + 1], np.array([h]), np.array([w]))
                    box, flip = again.box[0], again.flip[0]
                top, left, height, width = box.tolist()
                pixels = pixels[:, top : top + height, left : left + width]
            crop = resize(pixels, size, size, view.interpolation)
            images[n] = crop.flip(2) if flip else crop
        return Batch(images, torch.from_numpy(labels), torch.tensor(unreadable, dtype=torch.int64))

    def _draw(self, epoch: np.ndarray, sample: np.ndarray, height: np.ndarray, width: np.ndarray) -> Any:
        view = self.view
        return draw(
            view.seed,
            epoch,
            sample,
            np.maximum(height, 1),  # 0 is unknown: drawn anew once the picture is decoded
            np.maximum(width, 1),
            scale=view.crop_scale,
            ratio=view.crop_ratio,
            hflip=view.hflip,
        )

    def _readable(
        self, epoch: int, sample: int, box: np.ndarray, unreadable: list[int]
    ) -> tuple[torch.Tensor, int, bool]:
        """(pixels, whose they are, whether they are `box` alone): of `sample`, or where it cannot be read of another.

        Which one takes its place follows from the sample's number and the epoch.
        """
        used = sample
        for attempt in range(_SUBSTITUTES):
            try:
                data = self.index.read(used)
                if self.view.decoder == "nvimgcodec" and used == sample:
                    size = int(self.index.height[used]), int(self.index.width[used])
                    cut = nvimgcodec.decode_region(data, size, tuple(box.tolist()))
                    if cut is not None:
                        return cut, used, True
                return decode(data, self.view.decoder), used, False
            except DataError as error:
                unreadable.append(used)
                last = error
            used = key(self.view.seed, SUBSTITUTE, epoch, sample, attempt) % len(self.index)
        raise DataError(
            f"{_SUBSTITUTES} images in a row cannot be read, the last one because: {last.message}",
            hint="resnetctl verify lists what is wrong with the data set",
        )
