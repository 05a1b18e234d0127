"""Batches: item number in, uint8 pictures and labels out.

A training item is one micro-batch of one step on one rank, and what it holds follows from its number alone. The
number of workers, who fetches what, and where a run was resumed can therefore change nothing in it.
"""

from __future__ import annotations

import atexit
import ctypes
import multiprocessing
import signal
import sys
import threading
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info

from resnetctl.data import nvimgcodec
from resnetctl.data.augment import draw, train_size
from resnetctl.data.decode import centre, decode, resize
from resnetctl.data.index import Index, open_unchanged
from resnetctl.data.order import SUBSTITUTE, key, stream
from resnetctl.errors import DataError, ResnetctlError

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_SUBSTITUTES = 16  # unreadable in a row before giving up


class Batch(NamedTuple):
    """What a loader hands over."""

    images: torch.Tensor
    """`[B, 3, S, S] uint8`, channels last."""
    labels: torch.Tensor
    """`[B] int64`; -1 for a picture that could not be read, in evaluation only."""
    unreadable: torch.Tensor
    """`[K] int64`: samples that could not be read; in training others took their place."""


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
    decoder: str = "torchvision"
    """Or "nvimgcodec": the same pixels, sooner; or "pillow": the same, later."""
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
        images = _empty_images(len(sample), size)
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
                return decode(data), used, False
            except DataError as error:
                unreadable.append(used)
                last = error
            used = key(self.view.seed, SUBSTITUTE, epoch, sample, attempt) % len(self.index)
        raise DataError(
            f"{_SUBSTITUTES} images in a row cannot be read, the last one because: {last.message}",
            hint="resnetctl verify lists what is wrong with the data set",
        )


@dataclass(frozen=True, kw_only=True)
class EvalView:
    """How evaluation looks at a data set."""

    index: Path
    batch: int
    resize: int
    size: int
    interpolation: str
    rank: int = 0
    world_size: int = 1
    fingerprint: str | None = None
    """Of the index that is measured; None: take it as it is."""


class EvalBatches(Dataset[Batch]):
    """Batch `item` of the samples in index order; the last one holds what is left."""

    def __init__(self, view: EvalView) -> None:
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

    def items(self) -> range:
        """The batches of this rank: each one belongs to exactly one rank."""
        view = self.view
        return range(view.rank, -(-len(self.index) // view.batch), view.world_size)

    def __getitem__(self, item: int) -> Batch:
        view = self.view
        sample = range(item * view.batch, min((item + 1) * view.batch, len(self.index)))
        images = _empty_images(len(sample), view.size)
        labels = torch.from_numpy(self.index.label[sample.start : sample.stop].astype(np.int64))
        unreadable = []
        for n, i in enumerate(sample):
            try:
                images[n] = centre(decode(self.index.read(i)), view.resize, view.size, view.interpolation)
            except DataError:
                images[n] = 0
                labels[n] = -1
                unreadable.append(i)
        return Batch(images, labels, torch.tensor(unreadable, dtype=torch.int64))


def _empty_images(count: int, size: int) -> torch.Tensor:
    """`[count, 3, size, size] uint8`, channels last; in a worker it is made in shared memory, which saves a copy."""
    if get_worker_info() is None:
        pixels = torch.empty((count, size, size, 3), dtype=torch.uint8)
    else:
        try:
            shared = torch.UntypedStorage._new_shared(count * size * size * 3)  # as torch's own default_collate does
        except RuntimeError as error:
            raise ResnetctlError(
                f"a loader worker got no shared memory for a batch: {error}",
                hint="is /dev/shm full (resnetctl info)? Docker gives 64 MiB unless told: --shm-size=8g or --ipc=host; "
                "fewer --workers and a smaller train.micro_batch need less",
            ) from error
        pixels = torch.empty(0, dtype=torch.uint8).set_(shared).view(count, size, size, 3)
    return pixels.permute(0, 3, 1, 2)


# a terminal's Ctrl-C, torchrun's SIGTERM and Slurm's SIGUSR1 reach the whole process group: the trainer finishes its
# step, saves and stops, and needs its workers until then
_FOR_THE_TRAINER = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


def _start_worker(worker: int) -> None:
    for number in _FOR_THE_TRAINER:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _FOR_THE_TRAINER)
    if sys.platform == "linux":  # a killed trainer takes its workers with it at once
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


@atexit.register
def _end_workers() -> None:
    # after an error that kept a loader alive, multiprocessing would ask them with SIGTERM and wait for ever
    for process in multiprocessing.active_children():
        if process.daemon:
            process.kill()


class _ErrorsAsValues(Dataset[Any]):
    """Hands a worker's ResnetctlError over as it is: DataLoader would turn it into a message with a traceback."""

    def __init__(self, batches: Dataset[Batch]) -> None:
        self.batches = batches

    def __getitem__(self, item: int) -> Any:
        try:
            return self.batches[item]
        except ResnetctlError as error:
            return error


def _start(dataset: Dataset[Any], items: Iterable[int], workers: int, pin: bool, timeout: int) -> Any:
    """DataLoader's iterator, which notices a worker's death when it is asked for a batch, and at no other time.

    The signal handler that torch sets would raise wherever the main thread happens to be: in the middle of a save.
    """
    loader: DataLoader[Any] = DataLoader(
        dataset,
        batch_size=None,
        sampler=items,
        num_workers=workers,
        pin_memory=pin,
        timeout=timeout if workers else 0,
        prefetch_factor=2 if workers else None,
        worker_init_fn=_start_worker,
        # fork starts in 0.15 s and shares the mapped index; elsewhere (macOS) it is not safe
        multiprocessing_context="fork" if workers and sys.platform == "linux" else None,
    )
    # workers are born with these signals blocked, or one that comes before they can ignore it would end them
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _FOR_THE_TRAINER)
    try:
        if threading.current_thread() is not threading.main_thread():
            return iter(loader)
        before = signal.getsignal(signal.SIGCHLD)
        batches = iter(loader)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL if before is None else before)
        return batches
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _explain(error: Exception, timeout: int) -> ResnetctlError | None:
    """What to tell of an error of DataLoader; None where it is a bug of ours, which happened in a worker."""
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    if text.startswith("DataLoader timed out"):
        _end_workers()  # they would be waited for, one after the other
        return ResnetctlError(
            f"no batch came from the loader workers for {timeout} seconds",
            hint="does the storage of the images hang? If it is only slow: --set data.timeout_seconds=1000; "
            "then: resnetctl train --resume",
        )
    # a batch's memory is fetched from its worker, and what fails then is a connection
    lost = isinstance(error, EOFError | ConnectionError | FileNotFoundError) and not text.startswith("Caught ")
    if lost or text.startswith("DataLoader worker (pid"):
        return ResnetctlError(
            f"a loader worker died: {text}",
            hint="was it killed for want of memory (dmesg), or is /dev/shm full (resnetctl info)? "
            "Fewer --workers need less; then: resnetctl train --resume",
        )
    return None


def load(
    batches: Dataset[Batch], items: Iterable[int], *, workers: int, pin: bool, timeout: int = 0
) -> Iterator[Batch]:
    """The batches of `items`, in that order, fetched by `workers` processes (0: here) ahead of need.

    Raises DataError from a worker as it is, and ResnetctlError within seconds of a worker's death, or where workers
    bring no batch for `timeout` seconds (0: waits for ever).
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "This DataLoader will create", UserWarning)  # the user chose how many
        fetched = _start(_ErrorsAsValues(batches), items, workers, pin, timeout)
    try:
        for batch in fetched:
            if isinstance(batch, ResnetctlError):
                raise batch
            yield batch
    except (RuntimeError, OSError, EOFError) as error:
        explained = _explain(error, timeout)
        if explained is None:
            raise
        raise explained from error
    finally:
        if workers:  # now, while its queues still work: the garbage collector would take 20 seconds
            fetched._shutdown_workers()
