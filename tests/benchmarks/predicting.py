"""A folder of 10,000 pictures, predicted: `python -m tests.benchmarks.predicting [--work FOLDER]` prints JSON.

The files are hard links to photographs of 500×375 and about 90 kB, in one folder. A model that looks at ten bytes of
each picture stands in for a real one, so that reading, decoding, resizing, handing over and telling are what is
measured; beside it, in the same rounds, what `bench loader` measures on those photographs. Two cores, two workers.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from resnetctl.data.dataset import load_dataset
from resnetctl.data.pictures import find_pictures
from resnetctl.data.prepare import prepare
from resnetctl.engine.bench import measure_loader
from resnetctl.engine.inference import Model
from resnetctl.engine.normalise import Normalise
from resnetctl.engine.predict import predict
from resnetctl.recipe import load_recipe
from tests.benchmarks.meter import two_cores
from tests.fixtures.photos import benchmark_tree

FILES, PHOTOS, WORKERS = 10_000, 64, 2


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


def predicting(pictures: Path) -> float:
    """img/s of the folder, from listing it to the last prediction."""
    device, recipe = torch.device("cpu"), load_recipe("torchvision-v1")
    normalise = Normalise(recipe.data.mean, recipe.data.std, device)
    model = NoModel(network=torch.nn.Identity(), normalise=normalise, device=device, precision=torch.float32)
    began = time.perf_counter()
    files = find_pictures([str(pictures)])
    found = [p for batch in predict(model, recipe.data, files, workers=WORKERS) for p in batch]
    seconds = time.perf_counter() - began
    assert len(found) == FILES
    assert not any(p.problem for p in found)
    return FILES / seconds


def loading(work: Path) -> float:
    """img/s of the loader, as `bench loader` measures it."""
    prepare(work / "files", work / "photos", "folder")
    index = load_dataset(work / "files").train()
    recipe = load_recipe("torchvision-v1")
    return measure_loader(recipe, index, batch=64, workers=WORKERS, seconds=6).rate.median


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.predicting", description=__doc__)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "resnetctl-benchmarks")
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    two_cores()
    pictures = folder(args.work)
    rates: dict[str, list[float]] = {"loader": [], "predict": []}
    for _ in range(args.repeats):
        rates["loader"].append(loading(args.work))
        rates["predict"].append(predicting(pictures))
    medians = {name: statistics.median(found) for name, found in rates.items()}
    result: dict[str, Any] = {
        "files": FILES,
        "load_at_start": round(os.getloadavg()[0], 2),
        "img_s": medians,
        "spread": {name: [min(found), max(found)] for name, found in rates.items()},
        "share": medians["predict"] / medians["loader"],
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
