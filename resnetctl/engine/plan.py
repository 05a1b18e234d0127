"""Predicts a run here: its bottleneck, what fits, how long it will take, and what would help.

Everything follows from a few seconds of measurements on the actual data set and machine.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch

from resnetctl import hardware
from resnetctl.data.batches.resolution import train_size
from resnetctl.data.index import Index
from resnetctl.engine.bench import LoaderRate, ModelRate, at_size, measure_loader, measure_model
from resnetctl.engine.micro_batch import choose_micro_batch
from resnetctl.engine.timeline import Timeline
from resnetctl.engine.validation import EVAL_SPEEDUP
from resnetctl.progress import Progress, silent
from resnetctl.recipe import Override, Recipe, change_recipe

_SPARE = 1.15  # a loader this much faster than the model hides its fluctuations
_KEEPS_UP = 1.05
_FETCHED_AHEAD = 2  # batches per worker
_USED = 0.9  # of the free memory: the allocator cannot use all of it
_LOADER_BATCH = 64
_REACHED = {"cuda": 0.1}
"""Share of the matrix-product rate that a ResNet's step reaches; elsewhere 0.4.

On a GPU, batch norm, ReLU and additions are limited by memory bandwidth: 10 to 20 % are usual there.
"""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The expected behaviour of a run of `recipe` on this machine."""

    device: str
    limits: str
    """`loader` or `model`: the part for which the other waits."""
    images_per_second: float
    """Of loader and step together, at the final resolution."""
    workers: int
    cores: int
    model: ModelRate
    loader: LoaderRate
    """Measured with one worker."""
    micro_batch: int
    largest_micro_batch: int
    """The largest that fits: on a CPU estimated from measured memory, on a GPU found by trial."""
    memory_bytes: int | None
    memory_free_bytes: int
    shm_bytes: int
    shm_free_bytes: int | None
    disk_bytes: int
    """Of the checkpoints kept, and one being written."""
    disk_free_bytes: int
    steps: int
    epoch_seconds: float
    """At the final resolution, without evaluation."""
    eval_seconds: float
    """Of one evaluation, roughly."""
    run_seconds: float
    advice: tuple[str, ...]
    """What would help, most effective first."""
    problems: tuple[str, ...]
    """What will not fit."""


def make_plan(
    recipe: Recipe,
    train: Index,
    val: Index | None,
    runs: Path,
    *,
    device: torch.device,
    seconds: float,
    progress: Progress = silent,
) -> Plan:
    """Measure loader and step for `seconds` each and estimate the run."""
    classes = len(train.info.classes)
    batch = min(_LOADER_BATCH, recipe.train.global_batch)
    loader = measure_loader(recipe, train, batch=batch, workers=1, seconds=seconds, progress=progress)
    model, largest = _measure_largest(recipe, classes, device, seconds, progress)
    at_start = _rate_at_start(recipe, classes, model, device, seconds, progress)
    cores = hardware.usable_cores()
    workers = recipe.data.workers
    if workers < 0:
        workers = workers_for(model.rate.median, loader.rate.median, cores)
    rate = together(model.rate.median, loader.rate.median, workers, cores, device.type)
    rate_at_start = together(at_start, loader.rate.median, workers, cores, device.type)
    timeline = Timeline(recipe=recipe, images=len(train))
    share_done = timeline.steps / max(1, timeline.steps_planned)
    run_seconds = _training_seconds(recipe, len(train), rate, rate_at_start) * share_done
    eval_rate = together(model.rate.median * EVAL_SPEEDUP, loader.rate.median, workers, cores, device.type)
    eval_seconds = 0.0 if val is None else len(val) / eval_rate
    evaluations = 0 if val is None else math.ceil(recipe.train.epochs * share_done / recipe.train.eval_every_epochs)
    limits = "model" if model.rate.median * _KEEPS_UP <= loader.rate.median * max(1, workers) else "loader"
    shm, shm_bytes = hardware.shared_memory(), _shm_bytes(recipe, model.micro_batch, workers)
    disk_bytes = model.checkpoint_bytes * (recipe.checkpoint.keep + 2)  # the best one, and one being written
    disk_free = hardware.space(runs).free_bytes
    memory_free = _memory_free(device)
    return Plan(
        device=str(device),
        limits=limits,
        images_per_second=rate,
        workers=workers,
        cores=cores,
        model=model,
        loader=loader,
        micro_batch=model.micro_batch,
        largest_micro_batch=largest,
        memory_bytes=model.memory_bytes,
        memory_free_bytes=memory_free,
        shm_bytes=shm_bytes,
        shm_free_bytes=None if shm is None else shm.free_bytes,
        disk_bytes=disk_bytes,
        disk_free_bytes=disk_free,
        steps=timeline.steps,
        epoch_seconds=len(train) / rate,
        eval_seconds=eval_seconds,
        run_seconds=run_seconds + evaluations * eval_seconds,
        advice=tuple(_advice(recipe, limits, device, loader, model, max(1, workers), largest)),
        problems=_problems(
            ("memory", model.memory_bytes or 0, memory_free, "--set train.micro_batch=N takes fewer images"),
            ("/dev/shm", shm_bytes, shm_bytes if shm is None else shm.free_bytes, "fewer --workers need less"),
            ("the disk of the runs", disk_bytes, disk_free, "free some, or choose another --runs"),
        ),
    )


def _problems(*needs: tuple[str, int, int, str]) -> tuple[str, ...]:
    """A message for each (what, bytes needed, bytes available, cure) that is short."""
    return tuple(
        f"{what} needs {need / 2**30:.2f} GiB and has {have / 2**30:.2f} GiB: {cure}"
        for what, need, have, cure in needs
        if need > have
    )


def workers_for(model_rate: float, worker_rate: float, cores: int) -> int:
    """Worker processes that supply images at least as fast as the model takes them, with a margin.

    With a model on the CPU they compete for its cores, so there are no more than needed.
    """
    needed = math.ceil(_SPARE * model_rate / worker_rate)
    return max(1, min(needed, cores, hardware.MAX_WORKERS_PER_DEVICE))


def together(model_rate: float, worker_rate: float, workers: int, cores: int, device_type: str) -> float:
    """img/s of loader and step together: the slower of the two; on the CPU they share the cores, and times add up."""
    if device_type == "cpu":
        return 1 / (1 / model_rate + 1 / (worker_rate * cores))
    if not workers:  # the process that drives the device reads in between
        return 1 / (1 / model_rate + 1 / worker_rate)
    return min(model_rate, worker_rate * workers)


def _rate_at_start(
    recipe: Recipe, classes: int, model: ModelRate, device: torch.device, seconds: float, progress: Progress
) -> float:
    """img/s of the step at the initial resolution; `model` was measured at the final one."""
    start = recipe.data.train_size_start or recipe.data.train_size
    if start == recipe.data.train_size:
        return model.rate.median
    smaller = at_size(recipe, start)
    return measure_model(smaller, classes, device=device, seconds=seconds, progress=progress).rate.median


def _measure_largest(
    recipe: Recipe, classes: int, device: torch.device, seconds: float, progress: Progress
) -> tuple[ModelRate, int]:
    """The step at the micro-batch that training would choose, and the largest that fits."""
    share, chosen = recipe.train.global_batch, choose_micro_batch(recipe, device, 1)
    divisors = [n for n in range(1, share + 1) if share % n == 0]
    if device.type != "cuda":
        model = measure_model(recipe, classes, device=device, seconds=seconds, progress=progress)
        if not model.memory_bytes:
            return model, chosen
        fits = int(_USED * _memory_free(device) / model.memory_bytes * chosen)
        return model, max((n for n in divisors if n <= fits), default=1)
    # uncompiled: compiling takes a minute each and needs no more memory
    plain = change_recipe(recipe, [Override("train.compile", "off", "plan")])
    largest = 0
    for n in (n for n in divisors if n >= min(chosen, 16)):
        progress(f"micro-batch {n}", 0, None)
        if not _fits(plain, classes, device, n):
            break
        largest = n
    torch.cuda.empty_cache()
    best = max((n for n in divisors if n <= min(chosen, largest)), default=1)
    model = measure_model(recipe, classes, device=device, seconds=seconds, micro_batch=best, progress=progress)
    return model, largest or best


def _fits(recipe: Recipe, classes: int, device: torch.device, micro_batch: int) -> bool:
    try:
        measure_model(recipe, classes, device=device, seconds=0.1, micro_batch=micro_batch)
    except torch.OutOfMemoryError:
        return False
    return True


def _memory_free(device: torch.device) -> int:
    if device.type == "cuda":
        held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # cached by torch, not in use
        return torch.cuda.mem_get_info(device)[0] + held
    return hardware.memory().available_bytes


def _shm_bytes(recipe: Recipe, micro_batch: int, workers: int) -> int:
    """Of batches waiting, being made, and the two in use."""
    return micro_batch * 3 * recipe.data.train_size**2 * ((_FETCHED_AHEAD + 1) * workers + 2)


def _training_seconds(recipe: Recipe, images: int, rate: float, rate_at_start: float) -> float:
    """All epochs; between the first and the final resolution the time per image grows with its pixels."""
    d, t = recipe.data, recipe.train
    start = d.train_size_start or d.train_size
    slope = 0.0 if start == d.train_size else (1 / rate - 1 / rate_at_start) / (d.train_size**2 - start**2)
    seconds = 0.0
    for epoch in range(t.epochs):
        size = train_size(epoch, d, t)
        seconds += images * (1 / rate - slope * (d.train_size**2 - size**2))
    return seconds


def _advice(
    recipe: Recipe,
    limits: str,
    device: torch.device,
    loader: LoaderRate,
    model: ModelRate,
    workers: int,
    largest: int,
) -> list[str]:
    """What would help; `largest` is the micro-batch that fits."""
    advice = []
    if limits == "loader":
        missing = model.rate.median / (loader.rate.median * workers)
        advice.append(f"the model is {missing:.1f} times as fast as the loader: more cores would help most")
        if loader.decoder != "nvimgcodec":
            advice.append("pip install 'resnetctl[nvimgcodec]' decodes only what the crops need")
        advice.append("smaller images (prepare --pack with --max-side) decode faster in every epoch")
        return advice
    if device.type == "cpu":
        advice.append("a GPU would help most: the model on this CPU is the limit")
    elif not model.compiled:
        advice.append("torch.compile is off: with a C compiler (gcc) the step is faster")
    if recipe.data.train_size > 160 and not recipe.data.train_size_start:
        advice.append("progressive resizing (--set data.train_size_start=160) makes the first epochs faster")
    share = model.rate.median / model.bound
    if share < _REACHED.get(device.type, 0.4) and largest > model.micro_batch:
        advice.append(
            f"the step runs at {100 * share:.0f} % of the matrix-product rate, less than a ResNet usually reaches: "
            f"--set train.micro_batch={largest} may be faster"
        )
    return advice
