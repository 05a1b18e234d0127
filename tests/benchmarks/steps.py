"""Training steps that are compared, each in a process of its own: ResNet-50, 224 px.

`python -m tests.benchmarks.steps NAME [--device cuda] [--batch 256] [--seconds 8]` measures one and prints JSON. The
images are there already, or with `--data` JPEGs that the loop's own loader reads. Under torchrun it is the step of all
ranks together.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator
from itertools import repeat
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from resnetctl.distributed.group import ALONE, Group, joined
from resnetctl.distributed.world import read_world
from resnetctl.engine.bench import matmul_flops, measure_train
from resnetctl.engine.device import choose_precision, compile_or_why_not, rank_device, synchronise
from resnetctl.hardware import default_workers, usable_cores
from resnetctl.model import resnet
from resnetctl.recipe import Override, Recipe, change_recipe, load_recipe
from tests.benchmarks import loaders
from tests.benchmarks.meter import two_cores

SIZE, CLASSES = 224, 1000
GFLOP_PER_IMAGE = 24.6  # forward and backward of ResNet-50 at 224 px: 3 × 4.1 multiply-adds of 2
PASSES = 14
"""Least reads and writes of a convolution's output in a step, where normalising and ReLU are one kernel.

Forward: written, read for the statistics, read and written normalised, read by the next convolution. Backward: gradient
and output read for the sums, both read and the gradient written; the gradient read for the input's and for the
weights', the input read, the input's gradient written.
"""

Step = Callable[[], Any]
Batches = Iterator[tuple[torch.Tensor, torch.Tensor]]


def bench_recipe(batch: int, size: int, micro_batch: int = 0) -> Recipe:
    """ResNet-50 with plain SGD at one batch and resolution, nothing else."""
    values = {
        "train.global_batch": batch,
        "train.micro_batch": micro_batch or batch,
        "train.precision": "auto",
        "model.weights": "none",
        "data.train_size": size,
    }
    return load_recipe("onepager", overrides=[Override(k, v, "bench") for k, v in values.items()])


def one_page(device: torch.device, batches: Batches, group: Group) -> Step:
    """The one-page script's loop: float32, [B, C, H, W] in memory, the loss read at each step."""
    import torchvision

    model = torchvision.models.resnet50(num_classes=CLASSES).to(device)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.001, momentum=0.9)

    def step() -> float:
        images, labels = _there(next(batches), device)
        optimizer.zero_grad()
        loss = criterion(model(images), labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def torchvision_reference(device: torch.device, batches: Batches, group: Group) -> Step:
    """references/classification/train.py with --amp: float16 with a scaler, loss and accuracies read at each step."""
    import torchvision

    torch.backends.cudnn.benchmark = True
    model: nn.Module = torchvision.models.resnet50(num_classes=CLASSES).to(device)
    if group.size > 1:
        model = DistributedDataParallel(model, device_ids=_ids(device))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    scaler = torch.amp.GradScaler(device.type)
    half = torch.float16 if device.type == "cuda" else torch.bfloat16

    def step() -> tuple[float, float, float]:
        images, labels = _there(next(batches), device)
        with torch.amp.autocast(device.type, half):
            output = model(images)
            loss = criterion(output, labels)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        with torch.inference_mode():
            found = output.topk(5, 1)[1].eq(labels[:, None])
            top1, top5 = found[:, 0].sum() * 100 / len(labels), found.sum() * 100 / len(labels)
        return loss.item(), top1.item(), top5.item()

    return step


def timm(device: torch.device, batches: Batches, group: Group) -> Step:
    """timm's train.py with --amp --amp-dtype bfloat16 --channels-last --torchcompile inductor --opt sgd."""
    from timm import create_model
    from timm.optim import create_optimizer_v2

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.benchmark = True
    model: Any = create_model("resnet50", num_classes=CLASSES).to(device, memory_format=torch.channels_last)
    optimizer = create_optimizer_v2(model, opt="sgd", lr=0.1, momentum=0.9, weight_decay=1e-4)
    if group.size > 1:
        model = DistributedDataParallel(model, device_ids=_ids(device))
    if compile_or_why_not("auto", device) is None:
        model = torch.compile(model, backend="inductor")
    criterion = nn.CrossEntropyLoss()

    def step() -> None:
        images, labels = _there(next(batches), device)
        images = images.contiguous(memory_format=torch.channels_last)
        with torch.amp.autocast(device.type, torch.bfloat16):
            loss = criterion(model(images), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def resnetctl(device: torch.device, batches: Batches, group: Group) -> Step:
    """Our trainer's own step, from uint8 images on."""
    return _ours(device, batches, group)


def resnetctl_blurpool(device: torch.device, batches: Batches, group: Group) -> Step:
    """The same with BlurPool, which is a sum of shifted images where it is compiled."""
    return _ours(device, batches, group, blurpool=True)


def resnetctl_blurpool_as_convolution(device: torch.device, batches: Batches, group: Group) -> Step:
    """The same with BlurPool as a convolution of each channel."""

    def convolution(images: torch.Tensor, stride: int) -> torch.Tensor:
        kernel = resnet._kernel(images.shape[1], images)
        return nn.functional.conv2d(images, kernel, stride=stride, padding=1, groups=images.shape[1])

    resnet.sum_of_shifted = convolution
    return _ours(device, batches, group, blurpool=True)


def _ours(device: torch.device, batches: Batches, group: Group, *, blurpool: bool = False) -> Step:
    from resnetctl.data.batches.batch import Batch
    from resnetctl.engine.trainer import Trainer

    first = next(batches)
    size = len(first[1])
    recipe = change_recipe(bench_recipe(size * group.size, SIZE, size), [Override("model.blurpool", blurpool, "bench")])
    trainer = Trainer(recipe, CLASSES, device, choose_precision("auto", device), group)
    trainer.spread()
    if compile_or_why_not(recipe.train.compile, device) is None:
        trainer.compile()
    trainer.rehearse(size, SIZE)
    pixels = torch.randint(0, 256, (size, SIZE, SIZE, 3), dtype=torch.uint8).permute(0, 3, 1, 2).to(device)
    given = repeat(Batch(pixels, first[1], torch.zeros(0, dtype=torch.int64)))
    return lambda: trainer.step(0, given, 1, 0.001)


def _there(batch: tuple[torch.Tensor, torch.Tensor], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    images, labels = batch
    return images.to(device), labels.to(device)


def _ids(device: torch.device) -> list[torch.device] | None:
    return None if device.type == "cpu" else [device]


Loop = Callable[[torch.device, Batches, Group], Step]
LOOPS: dict[str, Loop] = {
    f.__name__.replace("_", "-"): f
    for f in (
        one_page,
        torchvision_reference,
        timm,
        resnetctl,
        resnetctl_blurpool,
        resnetctl_blurpool_as_convolution,
    )
}


def loaded(name: str, root: Path, device: torch.device, batch: int, workers: int) -> Batches:
    """The batches of a loop's own loader, from class folders."""
    if name == "timm":
        return loaders.timm(root, "", batch=batch, workers=workers, device=device)
    return loaders.torchvision_reference(root, "", batch=batch, workers=workers, pin=device.type == "cuda")


def measure(step: Step, device: torch.device, batch: int, seconds: float, group: Group = ALONE) -> dict[str, float]:
    """img/s of the median and the fastest of several windows, each of which ends when the device has done its work.

    All ranks make the same steps; what they have done together counts.
    """
    for _ in range(3):
        step()
    synchronise(device)
    began = time.perf_counter()
    step()
    synchronise(device)
    steps = group.broadcast(max(1, round(seconds / 10 / (time.perf_counter() - began))))
    times = []
    began = time.perf_counter()
    while group.broadcast(time.perf_counter() - began < seconds or len(times) < 3):
        start = time.perf_counter()
        for _ in range(steps):
            step()
        synchronise(device)
        times.append((time.perf_counter() - start) / steps)
    times.sort()
    return {"img_s": group.size * batch / times[len(times) // 2], "best_img_s": group.size * batch / times[0]}


def matmul(device: torch.device) -> dict[str, float]:
    """What the matrix products of this device would allow, in the precision that training takes here."""
    rate = matmul_flops(device, choose_precision("auto", device)) / (GFLOP_PER_IMAGE * 1e9)
    return {"img_s": rate, "best_img_s": rate}


def bandwidth(device: torch.device) -> dict[str, float]:
    """What the device's memory would allow, if activations alone were moved, PASSES times, in training's precision."""
    import torchvision

    moved, width = 0, choose_precision("auto", device).itemsize

    def count(module: nn.Module, inputs: Any, output: torch.Tensor) -> None:
        nonlocal moved
        moved += output.numel() * width * PASSES

    with torch.device("meta"):
        model = torchvision.models.resnet50()
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                module.register_forward_hook(count)
        model(torch.empty(1, 3, SIZE, SIZE))
    source = torch.empty(1 << (30 if device.type == "cuda" else 28), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    best = float("inf")
    for _ in range(10):
        synchronise(device)
        began = time.perf_counter()
        target.copy_(source)
        synchronise(device)
        best = min(best, time.perf_counter() - began)
    rate = 2 * source.numel() / best / moved
    return {"img_s": rate, "best_img_s": rate}


def with_jpegs(root: Path, device: torch.device, batch: int, seconds: float) -> dict[str, float]:
    """Our loader and step together, as `resnetctl train` has them, from the JPEGs of a data root."""
    from resnetctl.data.index import Index, index_path

    workers = default_workers(device.type, usable_cores())
    found = measure_train(
        bench_recipe(batch, SIZE), Index(index_path(root, "train")), device=device, workers=workers, seconds=seconds
    )
    return {"img_s": found.rate.median, "best_img_s": found.rate.high, "waiting": found.waiting, "workers": workers}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=[*LOOPS, "matmul", "bandwidth"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", default=32, type=int, help="images of each rank")
    parser.add_argument("--seconds", default=8.0, type=float)
    parser.add_argument("--data", type=Path, help="class folders; for resnetctl the data root of their index")
    args = parser.parse_args()
    if args.device == "cpu":
        two_cores()
    with joined(read_world(os.environ)) as group:
        device = rank_device(args.device, group.world.local_rank, group.world.local_size)
        found = run(args, device, group)
        if group.is_first:
            print(json.dumps(found))


def run(args: argparse.Namespace, device: torch.device, group: Group) -> dict[str, float]:
    """The figures of one name."""
    match args.name:
        case "matmul":
            return matmul(device)
        case "bandwidth":
            return bandwidth(device)
        case "resnetctl" if args.data:
            return with_jpegs(args.data, device, args.batch, args.seconds)
    if args.data:
        workers = default_workers(device.type, usable_cores())
        batches = loaded(args.name, args.data, device, args.batch, workers)
    else:
        images = torch.randn(args.batch, 3, SIZE, SIZE, device=device)
        batches = repeat((images, torch.randint(CLASSES, (args.batch,), device=device)))
    return measure(LOOPS[args.name](device, batches, group), device, args.batch, args.seconds, group)


if __name__ == "__main__":
    main()
