"""Training batches whose JPEGs are decoded on the device: workers read files, the trainer's process decodes them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch

from resnetctl.data.batches.batch import Batch
from resnetctl.data.batches.loader import load
from resnetctl.data.batches.train import TrainBatches
from resnetctl.data.images.cuda import decode_crops
from resnetctl.data.images.pillow import open_image
from resnetctl.data.images.unturned import unturned


class EncodedBatch(NamedTuple):
    """A batch in which K images are still JPEGs; the others, which only a CPU decodes, are decoded."""

    made: torch.Tensor
    """`[B - K, 3, S, S] uint8`."""
    labels: torch.Tensor
    """`[B] int64`."""
    unreadable: torch.Tensor
    """`[U] int64`, as in Batch."""
    erased: torch.Tensor
    """`[B, 4]` or `[0, 4] int64`, as in Batch."""
    files: torch.Tensor
    """The bytes of K JPEGs, concatenated."""
    ends: torch.Tensor
    """`[K] int64`: where each one ends."""
    rows: torch.Tensor
    """`[K] int64`: their rows in the batch."""
    boxes: torch.Tensor
    """`[K, 4] int64`: top, left, height, width of each one's crop."""
    flips: torch.Tensor
    """`[K] bool`."""
    size: int
    interpolation: str


class EncodedBatches(TrainBatches):
    """The same samples, crops and flips as TrainBatches, for the decoder "cuda"."""

    def __getitem__(self, item: int) -> Any:
        index = self.index
        samples = self.samples(item)
        sample = samples.sample
        draws = self._draw(samples, index.height[sample], index.width[sample])
        size = self._size(item)
        labels = index.label[sample].astype(np.int64)
        made: list[torch.Tensor] = []
        files: list[bytearray] = []
        rows: list[int] = []
        unreadable: list[int] = []
        for n in range(len(sample)):
            file = self._jpeg(int(sample[n]))
            if file is not None:
                files.append(file)
                rows.append(n)
                continue
            crop, used = self._crop(samples, draws, n, size, unreadable)
            made.append(crop)
            labels[n] = index.label[used]
        return EncodedBatch(
            made=torch.stack(made) if made else torch.empty((0, 3, size, size), dtype=torch.uint8),
            labels=torch.from_numpy(labels),
            unreadable=torch.tensor(unreadable, dtype=torch.int64),
            erased=self._erased(samples, size),
            files=torch.frombuffer(bytearray().join(files) or bytearray(1), dtype=torch.uint8),
            ends=torch.tensor([len(file) for file in files], dtype=torch.int64).cumsum(0),
            rows=torch.tensor(rows, dtype=torch.int64),
            boxes=torch.from_numpy(draws.box[rows].astype(np.int64)),
            flips=torch.from_numpy(draws.flip[rows].astype(bool)),
            size=size,
            interpolation=self.view.data.interpolation,
        )

    def _jpeg(self, sample: int) -> bytearray | None:
        """The file of `sample`, if it is a complete three-channel JPEG of the size in the index."""
        try:
            data = self.index.read(sample)
            if data[:2] != b"\xff\xd8" or data[-2:] != b"\xff\xd9":
                return None
            image = open_image(data)
        except Exception:  # Pillow raises nearly anything for damaged bytes; another sample takes its place
            return None
        size = int(self.index.width[sample]), int(self.index.height[sample])
        return unturned(data) if image.mode == "RGB" and image.size == size else None


def load_train(
    batches: TrainBatches, items: Iterable[int], *, device: torch.device, workers: int, timeout: int = 0
) -> Iterator[Batch]:
    """The training batches of `items`, as `load` yields them; with the decoder "cuda" the images are on `device`."""
    if batches.view.decoder != "cuda":
        yield from load(batches, items, workers=workers, pin=device.type == "cuda", timeout=timeout)
        return
    side = torch.cuda.Stream(device) if device.type == "cuda" else None  # runs beside the device's computation
    loaded: Any = load(EncodedBatches(batches.view), items, workers=workers, pin=False, timeout=timeout)
    with closing(loaded):
        for encoded in loaded:
            with torch.cuda.stream(side):
                batch = _decoded(encoded, device)
            if side is not None:
                compute = torch.cuda.current_stream(device)
                compute.wait_stream(side)
                batch.images.record_stream(compute)  # else it could be reused while the step still reads it
            yield batch


def _decoded(batch: EncodedBatch, device: torch.device) -> Batch:
    starts = [0, *batch.ends.tolist()]
    crops = decode_crops(
        [batch.files[start:end] for start, end in pairwise(starts)],
        batch.boxes.tolist(),
        batch.flips.tolist(),
        size=batch.size,
        interpolation=batch.interpolation,
        device=device,
    )
    if len(batch.made):
        is_made = torch.ones(len(batch.labels), dtype=torch.bool)
        is_made[batch.rows] = False
        order = torch.cat([batch.rows, is_made.nonzero()[:, 0]]).argsort()
        crops = torch.cat([crops, batch.made.to(device)])[order.to(device)]
    return Batch(crops, batch.labels, batch.unreadable, batch.erased)
