"""Training batches: item number in, uint8 images and labels out.

An item is one micro-batch of one step on one rank, and its content follows from its number alone. Therefore it depends
neither on the number of workers, nor on which one fetches it, nor on where a run was resumed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from resnetctl.data.batches.augment import Draws, draw, draw_erased
from resnetctl.data.batches.batch import Batch, empty_images
from resnetctl.data.batches.loader import IndexBatches
from resnetctl.data.batches.order import SUBSTITUTE, Samples, key, step_samples
from resnetctl.data.batches.policies import draw_operations, fill_color
from resnetctl.data.batches.resolution import size_at
from resnetctl.data.images import nvimgcodec
from resnetctl.data.images.decode import decode, resize
from resnetctl.data.images.decoders import choose_decoder
from resnetctl.data.images.operations import apply
from resnetctl.data.index import Index
from resnetctl.errors import DataError
from resnetctl.recipe import DataRecipe, Recipe, TrainRecipe

_SUBSTITUTES = 16  # unreadable images in a row before giving up


@dataclass(frozen=True, kw_only=True)
class TrainView:
    """How training reads a data set; picklable for spawned workers."""

    index: Path
    data: DataRecipe
    train: TrainRecipe
    micro_batch: int
    """Samples in one forward pass on one rank; divides the rank's share of the global batch."""
    decoder: str = "auto"
    """As `choose_decoder` returns it."""
    rank: int = 0
    world_size: int = 1
    fingerprint: str | None = None
    """The expected fingerprint of the index; None: not checked."""

    def __post_init__(self) -> None:
        assert self.train.global_batch % self.world_size == 0
        assert self.share % self.micro_batch == 0

    @property
    def share(self) -> int:
        """Samples in a step on this rank."""
        return self.train.global_batch // self.world_size

    @property
    def micro_batches(self) -> int:
        """Micro-batches in a step on this rank."""
        return self.share // self.micro_batch


def train_view(recipe: Recipe, index: Index, micro_batch: int, rank: int = 0, world_size: int = 1) -> TrainView:
    """How the recipe trains on `index`, for one rank."""
    return TrainView(
        index=index.path,
        fingerprint=index.info.fingerprint,
        data=recipe.data,
        train=recipe.train,
        micro_batch=micro_batch,
        decoder=choose_decoder(recipe.data.decoder),
        rank=rank,
        world_size=world_size,
    )


class TrainBatches(IndexBatches):
    """Micro-batch `item`: number `item % micro_batches` of step `item // micro_batches` on this rank."""

    view: TrainView

    def samples(self, item: int) -> Samples:
        """The samples of a micro-batch."""
        view = self.view
        step, micro = divmod(item, view.micro_batches)
        start = view.rank * view.share + micro * view.micro_batch
        part = slice(start, start + view.micro_batch)
        repetitions = view.data.repeated_augmentation
        return step_samples(view.train.seed, len(self.index), step, view.train.global_batch, part, repetitions)

    def __getitem__(self, item: int) -> Batch:
        view, index = self.view, self.index
        samples = self.samples(item)
        draws = self._draw(samples, index.height[samples.sample], index.width[samples.sample])
        size = self._size(item)
        operations, fill = draw_operations(view.data, view.train.seed, samples, size), fill_color(view.data)
        images = empty_images(len(samples.sample), size)
        labels = index.label[samples.sample].astype(np.int64)
        unreadable: list[int] = []
        for n in range(len(labels)):
            images[n], used = self._crop(samples, draws, n, size, unreadable)
            labels[n] = index.label[used]
            if operations[n]:
                pixels = images[n].permute(1, 2, 0).numpy()
                pixels[:] = apply(pixels, operations[n], fill)
        unread = torch.tensor(unreadable, dtype=torch.int64)
        return Batch(images, torch.from_numpy(labels), unread, self._erased(samples, size))

    def _size(self, item: int) -> int:
        return size_at(item // self.view.micro_batches, len(self.index), self.view.data, self.view.train)

    def _erased(self, samples: Samples, size: int) -> torch.Tensor:
        probability = self.view.data.random_erase
        if not probability:
            return torch.empty((0, 4), dtype=torch.int64)
        return torch.from_numpy(draw_erased(self.view.train.seed, samples, size, probability))

    def _crop(
        self, samples: Samples, draws: Draws, n: int, size: int, unreadable: list[int]
    ) -> tuple[torch.Tensor, int]:
        """Sample `n` of a batch: (`[3, size, size] uint8`, the sample actually read)."""
        sample, box, flip = int(samples.sample[n]), draws.box[n], draws.flip[n]
        pixels, used, cut = self._readable(int(samples.epoch[n]), sample, box, unreadable)
        if not cut:
            h, w = pixels.shape[1:]
            if used != sample or (h, w) != (self.index.height[used], self.index.width[used]):
                again = self._draw(samples.only(slice(n, n + 1)), np.array([h]), np.array([w]))
                box, flip = again.box[0], again.flip[0]
            top, left, height, width = box.tolist()
            pixels = pixels[:, top : top + height, left : left + width]
        crop = resize(pixels, size, size, self.view.data.interpolation)
        return crop.flip(2) if flip else crop, used

    def _draw(self, samples: Samples, height: np.ndarray, width: np.ndarray) -> Draws:
        data = self.view.data
        return draw(
            self.view.train.seed,
            samples,
            np.maximum(height, 1),  # 0 is unknown: drawn again once the image is decoded
            np.maximum(width, 1),
            scale=data.crop_scale,
            ratio=data.crop_ratio,
            hflip=data.hflip,
        )

    def _readable(
        self, epoch: int, sample: int, box: np.ndarray, unreadable: list[int]
    ) -> tuple[torch.Tensor, int, bool]:
        """(pixels, the sample they belong to, whether they are only `box`) for `sample`, or a substitute if unreadable.

        The substitute follows from the sample's number and the epoch.
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
            used = key(self.view.train.seed, SUBSTITUTE, epoch, sample, attempt) % len(self.index)
        raise DataError(
            f"{_SUBSTITUTES} images in a row cannot be read; the last one: {last.message}",
            hint="resnetctl verify lists what is wrong with the data set",
        )
