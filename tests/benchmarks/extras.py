"""What mixup and a moving average cost the training step: `python -m tests.benchmarks.extras SECONDS` prints JSON.

Steps with and without take turns in one process, so that whatever else slows the machine down slows all alike.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from itertools import repeat

import torch

from resnetctl.data.batches.batch import Batch
from resnetctl.engine.device import choose_precision
from resnetctl.engine.trainer import Trainer
from resnetctl.recipe import Override, load_recipe
from tests.benchmarks.meter import two_cores

SIZE, BATCH, CLASSES = 128, 32, 1000
VARIANTS = {
    "plain": {},
    "mixup": {"train.mixup_alpha": 0.2},
    "cutmix": {"train.cutmix_alpha": 1.0},
    "EMA every step": {"ema.every_steps": 1, "ema.decay": 0.9},
}


def trainer(values: dict[str, float]) -> Trainer:
    given = {"train.global_batch": BATCH, "train.micro_batch": BATCH, "data.train_size": SIZE, "model.weights": "none"}
    overrides = [Override(k, v, "benchmark") for k, v in {**given, "train.precision": "auto", **values}.items()]
    device = torch.device("cpu")
    return Trainer(load_recipe("onepager", overrides=overrides), CLASSES, device, choose_precision("auto", device))


def main() -> None:
    two_cores()
    images = torch.randint(0, 256, (BATCH, SIZE, SIZE, 3), dtype=torch.uint8).permute(0, 3, 1, 2)
    batches = repeat(Batch(images, torch.randint(CLASSES, (BATCH,)), torch.zeros(0, dtype=torch.int64)))
    trainers = {name: trainer(values) for name, values in VARIANTS.items()}
    seconds: dict[str, list[float]] = {name: [] for name in VARIANTS}
    end = time.monotonic() + float(sys.argv[1])
    step = 0
    while time.monotonic() < end or step < 6:
        for name, one in trainers.items():
            began = time.perf_counter()
            one.step(step, batches, 1, 0.001)
            one.update_average(0.9)
            seconds[name].append(time.perf_counter() - began)
        step += 1
    warm = {name: times[2:] for name, times in seconds.items()}
    figures = {name: BATCH / statistics.median(times) for name, times in warm.items()}
    slower = {
        f"{name}: slower, %": 100 * (statistics.median(a / b for a, b in zip(times, warm["plain"], strict=True)) - 1)
        for name, times in warm.items()
        if name != "plain"
    }
    slower["EMA every 32 steps: slower, %"] = slower["EMA every step: slower, %"] / 32
    print(json.dumps({**figures, **slower}))


if __name__ == "__main__":
    main()
