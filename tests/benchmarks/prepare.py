"""From archives to ready to train: `python -m tests.benchmarks.prepare [--work FOLDER] [--out FILE]` prints JSON.

Indexing a nested train tar of 200,000 members on one core; opening an index of 1,281,167 entries, and what a loader
worker's own memory grows by with it; against torchvision.datasets.ImageNet extracting and scanning the same archives.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import resource
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from resnetctl.data import imagenet
from tests.fixtures.imagenet_archives import DEVKIT, TRAIN, VAL, jpeg, meta_mat, tar_of, write_devkit

MEMBERS, CLASSES = 200_000, 200
BATCH = 64


def archives(root: Path, classes: int, per_class: int, val: int, image: bytes, size: int) -> Path:
    """The official three, each image `image` made `size` bytes long by random ones behind it."""
    root.mkdir(parents=True, exist_ok=True)
    if (root / DEVKIT).exists():
        return root
    wnids = imagenet.wnids()[:classes]
    noise = np.random.default_rng(0).bytes(max(0, size - len(image)))
    data = image + noise
    with tarfile.open(root / TRAIN, "w", format=tarfile.GNU_FORMAT) as outer:
        for wnid in wnids:
            inner = tar_of([(f"{wnid}_{n}.JPEG", data) for n in range(per_class)])
            info = tarfile.TarInfo(f"{wnid}.tar")
            info.size = len(inner)
            outer.addfile(info, io.BytesIO(inner))
    (root / VAL).write_bytes(tar_of([(f"ILSVRC2012_val_{n:08d}.JPEG", data) for n in range(1, val + 1)]))
    leaves = [(k + 1, wnid, wnid, per_class) for k, wnid in enumerate(wnids)]
    write_devkit(root / DEVKIT, meta_mat(leaves, 3), [1 + n % classes for n in range(val)])
    return root


def child(name: str, *args: object) -> dict[str, Any]:
    """Run one measurement in a process of its own, on one core."""
    command = [sys.executable, "-m", "tests.benchmarks.prepare", "--child", name, *map(str, args)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def measure_prepare(source: Path, data: Path) -> dict[str, Any]:
    """Index `source` on one core; the second time the page cache is warm."""
    from resnetctl.data.dataset import load_dataset
    from resnetctl.data.prepare import prepare

    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    start = time.perf_counter()
    done = prepare(data, source, "official")
    seconds = time.perf_counter() - start
    images = done.dataset.train_images + done.dataset.val_images
    load_dataset(data).train()
    return {
        "images": images,
        "seconds": round(seconds, 3),
        "images_per_second": round(images / seconds),
        "max_rss_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "archive_bytes": sum(p.stat().st_size for p in source.iterdir()),
        "written": {p.name: p.stat().st_size for p in sorted(data.iterdir())},
    }


def measure_torchvision(source: Path, data: Path) -> dict[str, Any]:
    """Extract and scan as `datasets.ImageNet` does, without its md5 check, which would take longer still."""
    from torchvision.datasets import ImageNet
    from torchvision.datasets import imagenet as reference

    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    data.mkdir(parents=True)
    for path in source.iterdir():
        (data / path.name).symlink_to(path)
    reference._verify_archive = lambda *args: None
    start = time.perf_counter()
    images = sum(len(ImageNet(str(data), split=split)) for split in ("train", "val"))
    return {"images": images, "seconds": round(time.perf_counter() - start, 3)}


def large_index(folder: Path, count: int) -> Path:
    """An index of `count` entries with ImageNet's names and sizes of classes, all of them the same small image."""
    from resnetctl.data.index import IndexInfo, Record, index_path
    from resnetctl.data.index_writer import IndexBuilder

    path = index_path(folder / f"index-{count}", "train")
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    data = jpeg(0, 64, 64)
    (path.parent / TRAIN).write_bytes(data)
    builder, wnids = IndexBuilder(), imagenet.wnids()
    for n in range(count):
        label = n * len(wnids) // count
        builder.add(Record(f"{wnids[label]}/{wnids[label]}_{n}.JPEG", TRAIN, 0, len(data), label, 64, 64))
    names = imagenet.names_of(wnids)
    builder.write(path, IndexInfo(split="train", source="official", root=".", classes=wnids, class_names=names))
    return path


def measure_open(path: Path) -> dict[str, Any]:
    """Seconds to open the index and look at a sample, in a fresh process."""
    from resnetctl.data.index import Index

    start = time.perf_counter()
    index = Index(path)
    index[len(index) // 2]
    return {"entries": len(index), "seconds": round(time.perf_counter() - start, 3)}


def measure_worker(path: Path) -> dict[str, Any]:
    """A real loader worker's memory after some batches: what it wrote, its unique set (USS), its share (PSS)."""
    import multiprocessing

    from resnetctl.data.batches.loader import load
    from resnetctl.data.batches.train import TrainBatches, TrainView
    from resnetctl.data.index import Index
    from resnetctl.recipe import DataRecipe, TrainRecipe

    index = Index(path)  # as the trainer has it open: the pages are shared
    view = TrainView(
        index=path,
        data=DataRecipe(train_size=64),
        train=TrainRecipe(epochs=90, global_batch=BATCH),
        micro_batch=BATCH,
    )
    batches = load(TrainBatches(view), range(1 << 20), workers=1, pin=False)
    for _ in range(30):
        next(batches)
    (worker,) = multiprocessing.active_children()
    rollup = Path(f"/proc/{worker.pid}/smaps_rollup").read_text()
    fields = {line.split(":")[0]: int(line.split()[1]) for line in rollup.splitlines()[1:]}
    batches.close()
    assert len(index)
    kib = {
        "written": fields["Private_Dirty"],
        "uss": fields["Private_Dirty"] + fields["Private_Clean"],
        "pss": fields["Pss"],
    }
    return {name: round(value / 1024, 1) for name, value in kib.items()}


CHILDREN = {
    "prepare": measure_prepare,
    "torchvision": measure_torchvision,
    "open": measure_open,
    "worker": measure_worker,
}


def compare(work: Path) -> dict[str, Any]:
    """All of it."""
    results: dict[str, Any] = {}
    small = archives(work / "members", CLASSES, MEMBERS // CLASSES, 1000, jpeg(0, 64, 64), 0)
    with tempfile.TemporaryDirectory(dir=work) as folder:
        runs = [child("prepare", small, Path(folder) / f"data{n}") for n in range(4)]
    results["nested tar of 200,000 members, one core, warm, the slowest"] = min(
        runs[1:], key=lambda r: r["images_per_second"]
    )
    results["nested tar: img/s of all runs"] = [r["images_per_second"] for r in runs]
    large, tiny = large_index(work, imagenet.TRAIN_IMAGES), large_index(work, 1000)
    results["index of 1,281,167 opened"] = [child("open", large) for _ in range(3)]
    small_worker, large_worker = child("worker", tiny), child("worker", large)
    results["a loader worker's memory (MiB)"] = {"1,000": small_worker, "1,281,167": large_worker}
    results["grows by (MiB)"] = {k: round(large_worker[k] - small_worker[k], 1) for k in small_worker}
    photos = archives(work / "photos", 40, 250, 2000, jpeg(0, 64, 64), 110_000)
    ratios = []
    for n in range(3):
        with tempfile.TemporaryDirectory(dir=work) as folder:
            pair = {
                "resnetctl": child("prepare", photos, Path(folder) / "ours"),
                "torchvision": child("torchvision", photos, Path(folder) / "theirs"),
            }
        ratios.append(round(pair["torchvision"]["seconds"] / pair["resnetctl"]["seconds"], 1))
        results[f"against torchvision, run {n}"] = {k: v["seconds"] for k, v in pair.items()}
    results["torchvision takes so many times as long"] = ratios
    return results


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.prepare", description=__doc__)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "resnetctl-benchmarks")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(CHILDREN[args.child[0]](*map(Path, args.child[1:]))))
        return
    args.work.mkdir(parents=True, exist_ok=True)
    text = json.dumps(compare(args.work), indent=2)
    print(text)
    if args.out:
        args.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
