"""Measures how fast this machine loads, computes and trains, with training's own components.

Every rate comes from several time windows, each of which ends when the device has finished its work, so that their
spread tells how far to trust the figure.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from resnetctl.data.batches.batch import Batch
from resnetctl.data.batches.encoded import load_train
from resnetctl.data.batches.train import TrainBatches, TrainView, train_view
from resnetctl.data.images.decode import decode
from resnetctl.data.index import Index
from resnetctl.engine.device import choose_precision, compile_or_why_not, synchronise
from resnetctl.engine.meter import timed
from resnetctl.engine.micro_batch import choose_micro_batch
from resnetctl.engine.trainer import Trainer
from resnetctl.model.resnet import build_model
from resnetctl.progress import Progress, silent
from resnetctl.recipe import Override, Recipe, change_recipe

WINDOWS = 5
_DECODES = 64  # images for measuring the decoding bound
_MATRIX = {"cpu": 3072, "cuda": 8192}


@dataclass(frozen=True, kw_only=True)
class Rate:
    """Images per second: the median, slowest and fastest window."""

    median: float
    low: float
    high: float
    images: int
    """The number counted."""


@dataclass(frozen=True, kw_only=True)
class LoaderRate:
    """The rate of the loader alone."""

    rate: Rate
    workers: int
    micro_batch: int
    size: int
    """Pixels."""
    decoder: str
    bound: float
    """img/s that the same processes could decode at most, whole files, doing nothing else."""


@dataclass(frozen=True, kw_only=True)
class ModelRate:
    """The rate of the training step alone, on images in memory."""

    rate: Rate
    micro_batch: int
    size: int
    precision: str
    compiled: bool
    bound: float
    """img/s that the device's matrix-product rate would allow in this arithmetic, measured in the same run."""
    gflop: float
    """10⁹ floating-point operations per image, forward and backward."""
    memory_bytes: int | None
    """Peak use during the steps beyond the use before; None if unknown."""
    checkpoint_bytes: int


@dataclass(frozen=True, kw_only=True)
class TrainRate:
    """The rate of loader and step together."""

    rate: Rate
    waiting: float
    """Share of the time spent waiting for a batch."""
    workers: int
    micro_batch: int
    size: int


def at_size(recipe: Recipe, size: int) -> Recipe:
    """`recipe` at one resolution throughout."""
    return change_recipe(
        recipe, [Override("data.train_size", size, "bench"), Override("data.train_size_start", 0, "bench")]
    )


def windows(go: Callable[[], int], finish: Callable[[], None], seconds: float) -> Rate:
    """Call `go`, which returns its number of images, for about `seconds`, in WINDOWS parts, each ended by `finish`."""
    rates, total = [], 0
    for _ in range(WINDOWS):
        images, began = 0, time.perf_counter()
        while True:
            images += go()
            if time.perf_counter() - began >= seconds / WINDOWS:
                break
        finish()
        rates.append(images / (time.perf_counter() - began))
        total += images
    return Rate(median=statistics.median(rates), low=min(rates), high=max(rates), images=total)


def _endless(view: TrainView, workers: int, device: torch.device) -> Iterator[Batch]:
    """Endless batches."""
    return load_train(TrainBatches(view), itertools.count(), device=device, workers=workers)


def measure_loader(
    recipe: Recipe, index: Index, *, batch: int, workers: int, seconds: float, progress: Progress = silent
) -> LoaderRate:
    """The loader alone, at the recipe's final resolution, after its first batches."""
    size = recipe.data.train_size
    view = train_view(at_size(_in_batches(recipe, batch), size), index, batch)
    bound = _decoding_rate(index) * max(1, workers)
    batches = _endless(view, workers, torch.device("cuda" if view.decoder == "cuda" else "cpu"))
    progress("loader", 0, None)
    try:
        for _ in range(2 * workers + 1):  # the prefetched batches
            next(batches)
        rate = windows(lambda: len(next(batches).labels), lambda: None, seconds)
    finally:
        _close(batches)
    return LoaderRate(rate=rate, workers=workers, micro_batch=batch, size=size, decoder=view.decoder, bound=bound)


def _in_batches(recipe: Recipe, batch: int) -> Recipe:
    return change_recipe(
        recipe, [Override("train.global_batch", batch, "bench"), Override("train.micro_batch", batch, "bench")]
    )


def _close(batches: Iterator[Batch]) -> None:
    batches.close()  # type: ignore[attr-defined]  # a generator: its workers end now


def _decoding_rate(index: Index) -> float:
    """Whole images decoded per second by one core of this process."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        files = [index.read(i) for i in range(0, len(index), max(1, len(index) // _DECODES))][:_DECODES]
        times = []
        for data in files:
            began = time.perf_counter()
            decode(data)
            times.append(time.perf_counter() - began)
    finally:
        torch.set_num_threads(threads)
    return len(times) / sum(times)


def measure_model(
    recipe: Recipe,
    classes: int,
    *,
    device: torch.device,
    seconds: float,
    micro_batch: int | None = None,
    progress: Progress = silent,
) -> ModelRate:
    """The training step alone, on random images of the recipe's final resolution.

    `micro_batch` None: as training would choose. Raises torch.OutOfMemoryError if it does not fit.
    """
    size = recipe.data.train_size
    batch = micro_batch or choose_micro_batch(recipe, device, 1)
    precision = choose_precision(recipe.train.precision, device)
    memory = _Memory(device)
    trainer = _trainer(_in_batches(recipe, batch), classes, device, precision)
    images = torch.randint(0, 256, (batch, size, size, 3), dtype=torch.uint8).permute(0, 3, 1, 2).to(device)
    labels = torch.randint(classes, (batch,)).to(device)
    batches = itertools.repeat(Batch(images, labels, torch.zeros(0, dtype=torch.int64)))

    def step() -> int:
        trainer.step(0, batches, 1, 1e-3)
        return batch

    progress("training step", 0, None)
    step()
    step()  # the first ones allocate and compile
    synchronise(device)
    rate = windows(step, lambda: synchronise(device), seconds)
    held = sum(t.numel() * t.element_size() for t in trainer.tensors().values())
    gflop = flop_per_image(recipe, classes) / 1e9
    return ModelRate(
        rate=rate,
        micro_batch=batch,
        size=size,
        precision=str(precision).removeprefix("torch."),
        compiled=trainer.is_compiled,
        bound=matmul_flops(device, precision) / (gflop * 1e9),
        gflop=gflop,
        memory_bytes=memory.peak(),
        checkpoint_bytes=held,
    )


def _trainer(recipe: Recipe, classes: int, device: torch.device, precision: torch.dtype) -> Trainer:
    trainer = Trainer(recipe, classes, device, precision)
    if compile_or_why_not(recipe.train.compile, device) is None:
        trainer.compile()
    return trainer


def measure_train(
    recipe: Recipe, index: Index, *, device: torch.device, workers: int, seconds: float, progress: Progress = silent
) -> TrainRate:
    """Loader and step together, as in a run, at the recipe's final resolution."""
    size = recipe.data.train_size
    micro_batch = choose_micro_batch(recipe, device, 1)
    recipe = at_size(_in_batches(recipe, micro_batch), size)
    precision = choose_precision(recipe.train.precision, device)
    trainer = _trainer(recipe, len(index.info.classes), device, precision)
    batches = _endless(train_view(recipe, index, micro_batch), workers, device)
    measured = timed(batches, device)

    def step() -> int:
        trainer.step(0, measured, 1, 1e-3)
        return micro_batch

    progress("loader and training step together", 0, None)
    try:
        for _ in range(2 * workers + 1):
            step()
        synchronise(device)
        measured.take()
        began = time.perf_counter()
        rate = windows(step, lambda: synchronise(device), seconds)
        waiting = measured.take() / (time.perf_counter() - began)
    finally:
        _close(batches)
    return TrainRate(rate=rate, waiting=waiting, workers=workers, micro_batch=micro_batch, size=size)


def flop_per_image(recipe: Recipe, classes: int) -> float:
    """Floating-point operations of one image, forward and backward: two for each multiply-add, as torch counts them."""
    size = recipe.data.train_size
    with torch.device("meta"):
        model = build_model(recipe.model, classes)
        images = torch.empty(2, 3, size, size)
        with FlopCounterMode(display=False) as counter:
            model(images).sum().backward()
    return counter.get_total_flops() / 2


def matmul_flops(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations per second in products of large square matrices, the best of several."""
    n = _MATRIX.get(device.type, 3072)
    a = torch.randn(n, n, device=device).to(dtype)
    best = float("inf")
    for _ in range(6):
        synchronise(device)
        began = time.perf_counter()
        a @ a
        synchronise(device)
        best = min(best, time.perf_counter() - began)
    return 2 * n**3 / best


class _Memory:
    """Peak memory use from here on, beyond the use at this point."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.before: int | None
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            self.before = torch.cuda.memory_allocated(device)
        else:
            self.before = self._status("VmRSS")
            try:
                Path("/proc/self/clear_refs").write_text("5")  # proc(5): resets the high-water mark
            except OSError:
                self.before = None

    def peak(self) -> int | None:
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) - (self.before or 0)
        now = self._status("VmHWM")
        return None if now is None or self.before is None else max(0, now - self.before)

    @staticmethod
    def _status(key: str) -> int | None:
        try:
            lines = Path("/proc/self/status").read_text().splitlines()
        except OSError:  # not on Linux
            return None
        fields = dict(line.split(":", 1) for line in lines)
        return int(fields[key].split()[0]) * 1024 if key in fields else None
