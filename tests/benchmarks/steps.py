"""Training steps that are compared, each in a process of its own: ResNet-50, 224 px, images that are there already.

`python -m tests.benchmarks.steps NAME [--device cuda] [--batch 256] [--seconds 8]` measures one and prints JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from itertools import repeat
from pathlib import Path
from typing import Any

import torch
from torch import nn

from resnetctl.engine.bench import matmul_flops, measure_train
from resnetctl.engine.device import choose_precision, compile_or_why_not, synchronise
from resnetctl.recipe import Override, Recipe, load_recipe
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


def bench_recipe(batch: int, size: int) -> Recipe:
    """ResNet-50 with plain SGD at one batch and resolution, nothing else."""
    values = {
        "train.global_batch": batch,
        "train.micro_batch": batch,
        "train.precision": "auto",
        "model.weights": "none",
        "data.train_size": size,
    }
    return load_recipe("onepager", overrides=[Override(k, v, "bench") for k, v in values.items()])


def one_page(device: torch.device, batch: int) -> Step:
    """The one-page script's loop: float32, [B, C, H, W] in memory, the loss read at each step."""
    import torchvision

    model = torchvision.models.resnet50(num_classes=CLASSES).to(device)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.001, momentum=0.9)
    images = torch.randn(batch, 3, SIZE, SIZE, device=device)
    labels = torch.randint(CLASSES, (batch,), device=device)

    def step() -> float:
        optimizer.zero_grad()
        loss = criterion(model(images), labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def torchvision_reference(device: torch.device, batch: int) -> Step:
    """references/classification/train.py with --amp: float16 with a scaler, loss and accuracies read at each step."""
    import torchvision

    model = torchvision.models.resnet50(num_classes=CLASSES).to(device)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    scaler = torch.amp.GradScaler(device.type)
    images = torch.randn(batch, 3, SIZE, SIZE, device=device)
    labels = torch.randint(CLASSES, (batch,), device=device)
    half = torch.float16 if device.type == "cuda" else torch.bfloat16

    def step() -> tuple[float, float, float]:
        with torch.amp.autocast(device.type, half):
            output = model(images)
            loss = criterion(output, labels)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        with torch.inference_mode():
            found = output.topk(5, 1)[1].eq(labels[:, None])
            top1, top5 = found[:, 0].sum() * 100 / batch, found.sum() * 100 / batch
        return loss.item(), top1.item(), top5.item()

    return step


def timm(device: torch.device, batch: int) -> Step:
    """timm's train.py with --amp --amp-dtype bfloat16 --channels-last --torchcompile inductor --opt sgd."""
    from timm import create_model
    from timm.optim import create_optimizer_v2

    model: Any = create_model("resnet50", num_classes=CLASSES).to(device, memory_format=torch.channels_last)
    optimizer = create_optimizer_v2(model, opt="sgd", lr=0.1, momentum=0.9, weight_decay=1e-4)
    if compile_or_why_not("auto", device) is None:
        model = torch.compile(model, backend="inductor")
    criterion = nn.CrossEntropyLoss()
    images = torch.randn(batch, 3, SIZE, SIZE, device=device).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(CLASSES, (batch,), device=device)

    def step() -> None:
        with torch.amp.autocast(device.type, torch.bfloat16):
            loss = criterion(model(images), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def resnetctl(device: torch.device, batch: int) -> Step:
    """Our trainer's own step, from uint8 images on."""
    from resnetctl.data.batches.batch import Batch
    from resnetctl.engine.trainer import Trainer

    recipe = bench_recipe(batch, SIZE)
    trainer = Trainer(recipe, CLASSES, device, choose_precision("auto", device))
    if compile_or_why_not(recipe.train.compile, device) is None:
        trainer.compile()
    images = torch.randint(0, 256, (batch, SIZE, SIZE, 3), dtype=torch.uint8).permute(0, 3, 1, 2).to(device)
    labels = torch.randint(CLASSES, (batch,)).to(device)
    batches = repeat(Batch(images, labels, torch.zeros(0, dtype=torch.int64)))
    return lambda: trainer.step(0, batches, 1, 0.001)


LOOPS: dict[str, Callable[[torch.device, int], Step]] = {
    f.__name__.replace("_", "-"): f for f in (one_page, torchvision_reference, timm, resnetctl)
}


def measure(step: Step, device: torch.device, batch: int, seconds: float) -> dict[str, float]:
    """img/s of the median and the fastest of several windows, each of which ends when the device has done its work."""
    for _ in range(3):
        step()
    synchronise(device)
    began = time.perf_counter()
    step()
    synchronise(device)
    steps = max(1, round(seconds / 10 / (time.perf_counter() - began)))
    times = []
    began = time.perf_counter()
    while time.perf_counter() - began < seconds or len(times) < 3:
        start = time.perf_counter()
        for _ in range(steps):
            step()
        synchronise(device)
        times.append((time.perf_counter() - start) / steps)
    times.sort()
    return {"img_s": batch / times[len(times) // 2], "best_img_s": batch / times[0]}


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
    from resnetctl.hardware import default_workers, usable_cores

    workers = default_workers(device.type, usable_cores())
    found = measure_train(
        bench_recipe(batch, SIZE), Index(index_path(root, "train")), device=device, workers=workers, seconds=seconds
    )
    return {"img_s": found.rate.median, "best_img_s": found.rate.high, "waiting": found.waiting, "workers": workers}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=[*LOOPS, "matmul", "bandwidth", "resnetctl-jpegs"])
    parser.add_argument("--device", default="cpu", type=torch.device)
    parser.add_argument("--batch", default=32, type=int)
    parser.add_argument("--seconds", default=8.0, type=float)
    parser.add_argument("--data", type=Path, help="the data root for resnetctl-jpegs")
    args = parser.parse_args()
    if args.device.type == "cpu":
        two_cores()
    match args.name:
        case "matmul":
            found = matmul(args.device)
        case "bandwidth":
            found = bandwidth(args.device)
        case "resnetctl-jpegs":
            found = with_jpegs(args.data, args.device, args.batch, args.seconds)
        case name:
            found = measure(LOOPS[name](args.device, args.batch), args.device, args.batch, args.seconds)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
