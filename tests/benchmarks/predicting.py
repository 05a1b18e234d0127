"""A folder of 10,000 pictures, predicted: `python -m tests.benchmarks.predicting [--work FOLDER]` prints JSON.

The files are hard links to photographs of 500×375 and about 90 kB, in one folder. A model that looks at ten bytes of
each picture stands in for a real one, so that reading, decoding, resizing, handing over and telling are what is
measured; beside it, in the same rounds, as many images from the training loader, which `bench loader` measures, with
TorchCodec (which `predict` decodes with, too) and with nvImageCodec where it is installed, and from the evaluation's,
which resizes whole pictures as `predict` does. Two cores, two workers; wall time, and processor time, which tells more
on a machine that others use too.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from resnetctl.data.batches.encoded import load_train
from resnetctl.data.batches.eval import EvalBatches, eval_view
from resnetctl.data.batches.loader import load
from resnetctl.data.batches.train import TrainBatches, train_view
from resnetctl.data.dataset import load_dataset
from resnetctl.data.image_files import find_images
from resnetctl.data.images import nvimgcodec
from resnetctl.data.index import Index
from resnetctl.data.prepare import prepare
from resnetctl.engine.inference import Model
from resnetctl.engine.normalise import Normalise
from resnetctl.engine.predict import predict
from resnetctl.recipe import Override, load_recipe
from tests.benchmarks.meter import two_cores
from tests.fixtures.photos import benchmark_tree

FILES, PHOTOS, WORKERS, BATCH = 10_000, 64, 2, 64


class NoModel(Model):
    """Ten bytes of a picture as its outputs: neither normalised nor computed with, which is a real model's time."""

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """`[B, 3, H, W] uint8` to `[B, 10] float32`."""
        return images[:, 0, 112, :10].float()


def folder(work: Path) -> Path:
    """The folder of hard links, made once."""
    found = work / "many"
    if not found.exists():
        photos = sorted((benchmark_tree(work / "photos", PHOTOS, 16, 8) / "train").rglob("*.jpg"))
        found.mkdir()
        for n in range(FILES):
            (found / f"{n:05d}.jpg").hardlink_to(photos[n % len(photos)])
    return found


def timed(work: Callable[[], None]) -> tuple[float, float]:
    """img/s, and milliseconds of processor time an image, of this process and the workers that have ended."""
    began, cpu = time.perf_counter(), sum(os.times()[:4])
    work()
    return FILES / (time.perf_counter() - began), 1e3 * (sum(os.times()[:4]) - cpu) / FILES


def predicting(pictures: Path) -> None:
    """The folder, from listing it to the last prediction."""
    device, recipe = torch.device("cpu"), load_recipe("torchvision-v1")
    normalise = Normalise(recipe.data.mean, recipe.data.std, device)
    model = NoModel(network=torch.nn.Identity(), normalise=normalise, device=device, precision=torch.float32)
    files = find_images([str(pictures)])
    found = [p for batch in predict(model, recipe.data, files, workers=WORKERS) for p in batch]
    assert len(found) == FILES
    assert not any(p.problem for p in found)


def loading(index: Index, decoder: str) -> None:
    """As many images of the loader, with the recipe that `predict` takes, too."""
    changed = {"train.global_batch": BATCH, "train.micro_batch": BATCH, "data.decoder": decoder}
    overrides = [Override(key, value, "benchmark") for key, value in changed.items()]
    view = train_view(load_recipe("torchvision-v1", overrides=overrides), index, BATCH)
    batches = load_train(TrainBatches(view), range(-(-FILES // BATCH)), device=torch.device("cpu"), workers=WORKERS)
    assert sum(len(b.labels) for b in batches) >= FILES


def evaluating(index: Index) -> None:
    """As many images of the evaluation's loader."""
    batches = EvalBatches(eval_view(load_recipe("torchvision-v1"), index, BATCH))
    items = [n % (len(index) // BATCH) for n in range(-(-FILES // BATCH))]  # the full batches
    assert sum(len(b.labels) for b in load(batches, items, workers=WORKERS, pin=False)) >= FILES


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.predicting", description=__doc__)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "resnetctl-benchmarks")
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    two_cores()
    torch.set_num_threads(1)  # a second thread of a model that is not there would only wait, at full speed
    pictures = folder(args.work)
    prepare(args.work / "files", args.work / "photos", "folder")
    index = load_dataset(args.work / "files").train()
    result: dict[str, Any] = {"files": FILES, "load_at_start": round(os.getloadavg()[0], 2)}
    ways: dict[str, Callable[[], None]] = {
        "loader": lambda: loading(index, "torchcodec"),
        "evaluation": lambda: evaluating(index),
        "predict": lambda: predicting(pictures),
    }
    if not nvimgcodec.why_not():
        ways["loader, nvimgcodec"] = lambda: loading(index, "nvimgcodec")
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(args.repeats):
        for name, way in ways.items():
            found[name].append(timed(way))
    for at, figure in enumerate(("img_s", "cpu_ms_per_image")):
        result[figure] = {name: statistics.median(run[at] for run in runs) for name, runs in found.items()}
        result[f"{figure}_of_each_round"] = {name: [run[at] for run in runs] for name, runs in found.items()}
    result["share_of_the_loaders_rate"] = result["img_s"]["predict"] / result["img_s"]["loader"]
    result["share_by_processor_time"] = result["cpu_ms_per_image"]["loader"] / result["cpu_ms_per_image"]["predict"]
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
