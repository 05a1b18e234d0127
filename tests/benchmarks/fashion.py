"""Equal budgets on Fashion-MNIST: `small` against a plain loop, `small` with one more thing at a time, and `finetune`.

`python -m tests.benchmarks.fashion [ablation|finetune] [--minutes M]` makes the runs that are still missing in the file
of results, one process each, starts none after M minutes, and prints the table of what is there. Nothing but the
package `dataset-fashion-mnist` (and scikit-learn's digits) is needed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from resnetctl.data.prepare import prepare
from tests.make_sample import DEBIAN, FOLDERS, read_idx

SIZE, ARCH, BATCH, EPOCHS, SEEDS = 32, "resnet18", 64, 5, 3
TRAIN, VAL = 300, 500
"""Of each class, the first ones of the 6,000 and the 1,000."""

Words = tuple[str, ...]

# what is added to (or left out of) `small`, as --set
VARIANTS: dict[str, Words] = {
    "small": (),
    "without label smoothing": ("train.label_smoothing=0",),
    "EMA, half-life of 100 steps": ("ema.every_steps=5", "ema.half_life=100"),
    "EMA, half-life of 20 steps": ("ema.every_steps=1", "ema.half_life=20"),
    "mixup 0.2": ("train.mixup_alpha=0.2",),
    "cutmix 1.0": ("train.cutmix_alpha=1.0",),
    "TrivialAugment": ("data.augment=trivial-augment-wide",),
    "progressive, 16 to 32 px": (
        "data.train_size_start=16",
        "data.train_size_multiple=4",
        "data.train_size_ramp=[0.3,0.7]",
    ),
}

# --- the data -------------------------------------------------------------------------------------------------------


def write_folders(root: Path, split: str, images: np.ndarray, labels: np.ndarray, names: Words) -> None:
    """`images [N, H, W] uint8` as PNG files, one folder a class."""
    for label, name in enumerate(names):
        folder = root / split / name
        folder.mkdir(parents=True)
        for i in np.flatnonzero(labels == label):
            Image.fromarray(images[i]).save(folder / f"{i:05d}.png")


def part(split: str, per_class: int, classes: range) -> tuple[np.ndarray, np.ndarray]:
    """The first `per_class` images of each of `classes`, and their labels, counted from 0."""
    images, labels = (read_idx(DEBIAN / f"{split}-{kind}.gz") for kind in ("images-idx3-ubyte", "labels-idx1-ubyte"))
    chosen = np.concatenate([np.flatnonzero(labels == c)[:per_class] for c in classes])
    return images[chosen], labels[chosen].astype(int) - classes.start


def fashion(folder: Path, train: int, val: int, classes: range) -> Path:
    """A data root with so many images of each of `classes`, beside the class folders that it is made of."""
    if not (folder / "data" / "dataset.json").exists():
        names = FOLDERS[classes.start : classes.stop]
        write_folders(folder / "tree", "train", *part("train", train, classes), names)
        write_folders(folder / "tree", "val", *part("t10k", val, classes), names)
        prepare(folder / "data", folder / "tree")
    return folder


def few(folder: Path, which: str, seed: int) -> Path:
    """20 images of each class to learn from, drawn by `seed`, and all others of the val split, or of the set."""
    if (folder / "data" / "dataset.json").exists():
        return folder
    if which == "digits":
        from sklearn.datasets import load_digits

        digits = load_digits()
        images, labels = (digits.images * 255 / 16).astype(np.uint8), digits.target
        names: Words = tuple(str(n) for n in range(10))
    else:
        images, labels = part("train", 6000, range(5, 10))
        names = FOLDERS[5:]
    order = np.random.default_rng(seed).permutation(len(labels))
    chosen = np.concatenate([order[labels[order] == label][:20] for label in range(len(names))])
    rest = np.setdiff1d(order, chosen)
    val = (images[rest], labels[rest]) if which == "digits" else part("t10k", VAL, range(5, 10))
    write_folders(folder / "tree", "train", images[chosen], labels[chosen], names)
    write_folders(folder / "tree", "val", *val, names)
    prepare(folder / "data", folder / "tree")
    return folder


# --- the runs -------------------------------------------------------------------------------------------------------


def plain_loop(tree: Path, epochs: int, seed: int) -> dict[str, float]:
    """What torchvision's reference does, with its cosine, at `small`'s batch, flips and epochs; no smoothing."""
    import torch
    import torchvision
    from torch.utils.data import DataLoader
    from torchvision import transforms as t

    torch.manual_seed(seed)
    ending = [t.ToTensor(), t.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))]
    flipped = t.Compose([t.Resize((SIZE, SIZE)), t.RandomHorizontalFlip(), *ending])
    train = torchvision.datasets.ImageFolder(tree / "train", flipped)
    val = torchvision.datasets.ImageFolder(tree / "val", t.Compose([t.Resize((SIZE, SIZE)), *ending]))
    model = torchvision.models.resnet18(num_classes=len(train.classes))
    criterion = torch.nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    began = time.perf_counter()
    for _ in range(epochs):
        model.train()
        for images, labels in DataLoader(train, BATCH, shuffle=True):
            optimizer.zero_grad()
            criterion(model(images), labels).backward()
            optimizer.step()
        schedule.step()
    model.eval()
    correct = 0
    with torch.inference_mode():
        for images, labels in DataLoader(val, 256):
            correct += int((model(images).argmax(1) == labels).sum())
    return {"top1": 100 * correct / len(val), "seconds": time.perf_counter() - began}


def ours(data: Path, runs: Path, seed: int, *words: str) -> dict[str, float]:
    """`resnetctl train` with `words`; top-1 of what evaluation takes, and seconds from the first step to the end."""
    sizes = [f"--set=data.{key}={SIZE}" for key in ("train_size", "val_size", "val_resize")]
    begin = [sys.executable, "-m", "resnetctl", "-q", "train", "--json", "--workers", "0", "--arch", ARCH]
    command = [*begin, "--data", str(data), "--runs", str(runs), "--seed", str(seed), *sizes, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr}")
    found = json.loads(done.stdout)
    result = {"top1": found["top1"], "seconds": found["seconds"]}
    lines = [json.loads(line) for line in (Path(found["run"]) / "metrics.jsonl").read_text().splitlines()]
    raw = [line["raw_top1"] for line in lines if line["kind"] == "eval" and line.get("raw_top1") is not None]
    return {**result, "raw_top1": raw[-1]} if raw else result


def settings(words: Words) -> Words:
    """`words`, each as --set; evaluated once, at the end."""
    return tuple(f"--set={word}" for word in (*words, "train.eval_every_epochs=1000"))


def ablation(work: Path, name: str, seed: int) -> dict[str, float]:
    """One run of the first table."""
    root = fashion(work / "fashion", TRAIN, VAL, range(10))
    if name == "plain loop":
        return plain_loop(root / "tree", EPOCHS, seed)
    common = ("--recipe", "small", "--epochs", str(EPOCHS), "--batch-size", str(BATCH))
    return ours(root / "data", work / "runs", seed, *common, *settings(VARIANTS[name]))


STARTS = ("finetune, from weights", "finetune, from random", "small, from weights", "small, from random")
SETS = {"digits": "10 digits × 20", "fashion": "5 other classes × 20"}


def finetune(work: Path, name: str, seed: int) -> dict[str, float]:
    """One run of the second table: the weights are those of `small` on Fashion-MNIST's first five classes."""
    which = next(key for key, title in SETS.items() if name.startswith(title))
    weights = pretrained(work)
    data = few(work / f"few-{which}-{seed}", which, seed) / "data"
    start = name.partition(": ")[2]
    words = {
        STARTS[0]: ("--weights", str(weights)),  # the recipe follows
        STARTS[1]: ("--recipe", "finetune", "--weights", "none"),
        STARTS[2]: ("--recipe", "small", "--epochs", "20", "--batch-size", "32", "--weights", str(weights)),
        STARTS[3]: ("--recipe", "small", "--epochs", "20", "--batch-size", "32"),
    }[start]
    return ours(data, work / "runs", seed, *words, *settings(()))


def pretrained(work: Path) -> Path:
    """Weights of `small` on all images of classes 0 to 4; trained, or trained on, where there are none yet."""
    weights, run = work / "start.safetensors", work / "pretrained" / "start"
    if not weights.exists():
        data = fashion(work / "five-classes", 6000, 1000, range(5)) / "data"
        words = ("--resume", str(run)) if run.exists() else ("--recipe", "small", "--epochs", "8", "--name", "start")
        print("pretraining:", ours(data, run.parent, 0, *words, *settings(())), file=sys.stderr)
        shutil.copyfile(sorted(run.glob("checkpoints/step-*.safetensors"))[-1], weights)
    return weights


PARTS = {
    "ablation": (ablation, ("plain loop", *VARIANTS)),
    "finetune": (finetune, tuple(f"{title}: {start}" for title in SETS.values() for start in STARTS)),
}

# --- the tables -----------------------------------------------------------------------------------------------------


def table(rows: dict[str, list[dict[str, float]]]) -> str:
    """Mean, spread (lowest and highest) and seconds of each row's runs."""
    lines = ["| | top-1 %, mean | each seed | weights beside their EMA | seconds |", "|---|---|---|---|---|"]
    for name, runs in rows.items():
        each = [run["top1"] for run in runs]
        raw = [run["raw_top1"] for run in runs if "raw_top1" in run]
        seconds = statistics.mean(run["seconds"] for run in runs)
        lines.append(
            f"| {name} | {statistics.mean(each):.2f} | {', '.join(f'{x:.2f}' for x in each)} "
            f"| {f'{statistics.mean(raw):.2f}' if raw else ''} | {seconds:.0f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.fashion", description=__doc__)
    parser.add_argument("part", nargs="?", choices=PARTS, default="ablation")
    parser.add_argument("--minutes", type=float, default=1e9, help="start no run after so many")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "resnetctl-benchmarks" / "fashion")
    args = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", str(len(os.sched_getaffinity(0))))
    args.work.mkdir(parents=True, exist_ok=True)
    make, names = PARTS[args.part]
    file = args.work / f"{args.part}.json"
    rows: dict[str, list[dict[str, float]]] = json.loads(file.read_text()) if file.exists() else {}
    began = time.monotonic()
    for seed in range(SEEDS):
        for name in names:
            if len(rows.get(name, [])) <= seed and time.monotonic() - began < 60 * args.minutes:
                rows.setdefault(name, []).append(make(args.work, name, seed))
                print(seed, name, rows[name][-1], file=sys.stderr, flush=True)
                file.write_text(json.dumps(rows, indent=1) + "\n")
    print(table({name: rows[name] for name in names if name in rows}))


if __name__ == "__main__":
    main()
