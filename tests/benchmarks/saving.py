"""What a save costs the training: `python -m tests.benchmarks.saving [--arch resnet50] [--device cpu] [--batch 32]`.

The stall is the time for which training stands still while a checkpoint is taken; the steps beside the writing are
slower than those right before. Prints one line of JSON.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import torch

from resnetctl.data.batches.batch import Batch
from resnetctl.engine.device import choose_device, choose_precision, synchronise
from resnetctl.engine.saver import Saver
from resnetctl.engine.trainer import Trainer
from resnetctl.recipe import Override, load_recipe
from resnetctl.runs.folder import Run
from tests.fixtures.checkpoints import metadata


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--arch", default="resnet50")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--saves", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where to save, instead of the folder for temporary files")
    args = parser.parse_args()
    recipe = load_recipe("fast", overrides=[Override("model.arch", args.arch, "benchmark")])
    device = choose_device(args.device)
    trainer = Trainer(recipe, 1000, device, choose_precision("auto", device))
    images = torch.randint(0, 256, (args.batch, 3, args.size, args.size), dtype=torch.uint8)
    batch = Batch(images, torch.randint(0, 1000, (args.batch,)), torch.empty(0, dtype=torch.int64))

    def step() -> float:
        began = time.perf_counter()
        trainer.step(0, iter([batch]), 1, 0.01)
        synchronise(device)
        return time.perf_counter() - began

    for _ in range(3):
        step()
    alone, stalls, beside, writes = [], [], [], []
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        run = Run(Path(folder))
        run.checkpoints.mkdir()
        saver = Saver(run, 2)
        for n in range(args.saves):
            around = [step() for _ in range(3)]  # beside each save, since machines drift
            began = time.perf_counter()
            saver.start(trainer.tensors(), metadata(n), set())
            stalls.append(time.perf_counter() - began)
            during, saved = [], []
            while not saved:
                during.append(step())
                saved = saver.poll()
            usual = statistics.median(around)
            alone.append(usual)
            beside.append(sum(during) - usual * len(during))
            writes.append(saved[0].seconds)
        size = saved[0].bytes
    one_step = statistics.median(alone)
    cost = statistics.median(stalls) + max(0.0, statistics.median(beside))
    figures = {
        "step_seconds": one_step,
        "stall_seconds": statistics.median(stalls),
        "longest_stall_seconds": max(stalls),
        "write_seconds": statistics.median(writes),
        "slower_steps_seconds": statistics.median(beside),
        "checkpoint_mib": size / 2**20,
        "longest_stall_percent_of_step": 100 * max(stalls) / one_step,
        "percent_of_run_at_default_interval": 100 * cost / (60 * recipe.checkpoint.every_minutes),
    }
    print(json.dumps({name: round(value, 4) for name, value in figures.items()}))


if __name__ == "__main__":
    main()
