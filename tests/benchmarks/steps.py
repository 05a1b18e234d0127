"""The training step on the CPU: the one-page loop, ours, and the processor's bf16 matrix-product rate as the bound.

`python -m tests.benchmarks.steps NAME SECONDS` measures one and prints JSON. ResNet-50, 224 px, batch 32, two cores.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from itertools import repeat
from typing import Any

import torch

from tests.benchmarks.meter import two_cores

BATCH, SIZE, CLASSES = 32, 224, 1000
GFLOP_PER_IMAGE = 24.6  # forward and backward of ResNet-50 at 224 px: 3 × 4.1 multiply-adds of 2


def one_page() -> Callable[[], Any]:
    """float32, images as [B, C, H, W] in memory, the loss read at each step."""
    import torchvision

    model = torchvision.models.resnet50(num_classes=CLASSES)
    criterion = torch.nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.001, momentum=0.9)
    images, labels = torch.randn(BATCH, 3, SIZE, SIZE), torch.randint(CLASSES, (BATCH,))

    def step() -> float:
        optimizer.zero_grad()
        loss = criterion(model(images), labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def resnetctl() -> Callable[[], Any]:
    """Our trainer's own step, from uint8 images on."""
    from resnetctl.data.loader import Batch
    from resnetctl.engine.bench import bench_recipe
    from resnetctl.engine.device import choose_precision
    from resnetctl.engine.trainer import Trainer

    device = torch.device("cpu")
    recipe = bench_recipe(BATCH, SIZE)
    trainer = Trainer(recipe, CLASSES, device, choose_precision("auto", device))
    images = torch.randint(0, 256, (BATCH, SIZE, SIZE, 3), dtype=torch.uint8).permute(0, 3, 1, 2)
    batches = repeat(Batch(images, torch.randint(CLASSES, (BATCH,)), torch.zeros(0, dtype=torch.int64)))
    return lambda: trainer.step(batches, 1, 0.001)


def measure(step: Callable[[], Any], seconds: float) -> dict[str, float]:
    """img/s of the fastest and the median step, after two warm ones."""
    step(), step()
    times = []
    began = time.perf_counter()
    while time.perf_counter() - began < seconds or len(times) < 3:
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    times.sort()
    return {"img_s": BATCH / times[len(times) // 2], "best_img_s": BATCH / times[0]}


def matmul(seconds: float) -> dict[str, float]:
    """What the bf16 matrix products of this processor would allow, in img/s."""
    n = 3072
    a, b = torch.randn(n, n, dtype=torch.bfloat16), torch.randn(n, n, dtype=torch.bfloat16)
    a @ b
    times = []
    began = time.perf_counter()
    while time.perf_counter() - began < seconds / 2:
        start = time.perf_counter()
        a @ b
        times.append(time.perf_counter() - start)
    times.sort()
    per_image = GFLOP_PER_IMAGE * 1e9 / (2 * n**3)
    return {"img_s": 1 / (times[len(times) // 2] * per_image), "best_img_s": 1 / (times[0] * per_image)}


if __name__ == "__main__":
    two_cores()
    name, seconds = sys.argv[1], float(sys.argv[2])
    if name == "matmul":
        print(json.dumps(matmul(seconds)))
    else:
        print(json.dumps(measure({"one-page": one_page, "resnetctl": resnetctl}[name](), seconds)))
