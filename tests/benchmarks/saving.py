"""What a save costs the training: `python -m tests.benchmarks.saving [--arch resnet50] [--device cpu] [--batch 32]`.

Steps are timed alone, then steps in which a checkpoint is taken (the stall), then those in which the writer is at work
beside the training. Prints one JSON document.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import torch

from resnetctl.data.loader import Batch
from resnetctl.engine.device import choose_device, choose_precision, synchronise
from resnetctl.engine.run import Run
from resnetctl.engine.saver import Saver
from resnetctl.engine.trainer import Trainer
from resnetctl.recipe import Override, load_recipe


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--arch", default="resnet50")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--saves", type=int, default=3)
    args = parser.parse_args()
    recipe = load_recipe("fast", overrides=[Override("model.arch", args.arch, "benchmark")])
    device = choose_device(args.device)
    trainer = Trainer(recipe, 1000, device, choose_precision("auto", device))
    images = torch.randint(0, 256, (args.batch, 3, args.size, args.size), dtype=torch.uint8)
    batch = Batch(images, torch.randint(0, 1000, (args.batch,)), torch.empty(0, dtype=torch.int64))

    def step() -> float:
        began = time.perf_counter()
        trainer.step(iter([batch]), 1, 0.01)
        synchronise(device)
        return time.perf_counter() - began

    for _ in range(3):
        step()
    alone = statistics.median(step() for _ in range(5))
    stalls, beside, writes = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        run = Run(Path(folder))
        run.checkpoints.mkdir()
        saver = Saver(run, 2)
        for n in range(args.saves):
            began = time.perf_counter()
            saver.start(n, trainer.tensors(), {}, set())
            stalls.append(time.perf_counter() - began)
            extra, saved = 0.0, []
            while not saved:
                extra += step() - alone
                saved = saver.poll()
            beside.append(extra)
            writes.append(saved[0].seconds)
        size = saved[0].bytes
    cost = statistics.median(s + max(0.0, b) for s, b in zip(stalls, beside, strict=True))
    print(
        json.dumps(
            {
                "arch": args.arch,
                "device": str(device),
                "batch": args.batch,
                "threads": torch.get_num_threads(),
                "checkpoint_bytes": size,
                "step_seconds": round(alone, 4),
                "stall_seconds": [round(s, 4) for s in stalls],
                "write_seconds": [round(w, 3) for w in writes],
                "slower_steps_seconds": [round(b, 3) for b in beside],
                "share_of_step": round(statistics.median(stalls) / alone, 4),
                "share_of_run_at_default_interval": round(cost / (60 * recipe.checkpoint.every_minutes), 6),
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
