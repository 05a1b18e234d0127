"""Seconds from the start of `resnetctl train` to its first step, on an index of 1.28 million images.

`python -m tests.benchmarks.start FOLDER` prints JSON; every image is one of a few photographs: no ImageNet is needed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path

from resnetctl.data.archives.reader import open_file
from resnetctl.data.archives.tar import tar_members
from resnetctl.data.dataset import DATASET_FILE, Dataset, created_by, encode_dataset
from resnetctl.data.index import IndexInfo, Record, index_path
from resnetctl.data.index_writer import IndexBuilder
from tests.fixtures.photos import benchmark_picture

IMAGES, CLASSES, PICTURES = 1_281_167, 1000, 16


def big_data_root(root: Path) -> Path:
    """A data root with a train index of ImageNet's size; every sample is one of a few pictures in a tar."""
    if (root / "dataset.json").exists():
        return root
    root.mkdir(parents=True, exist_ok=True)
    tar = root / "pictures.tar"
    with tarfile.open(tar, "w") as archive:
        for i in range(PICTURES):
            data = benchmark_picture(i)
            member = tarfile.TarInfo(f"{i}.jpg")
            member.size = len(data)
            path = root / "picture.jpg"
            path.write_bytes(data)
            with path.open("rb") as file:
                archive.addfile(member, file)
    with open_file(tar) as (read, end):
        members = list(tar_members(read, 0, end, tar.name))
    builder = IndexBuilder()
    for i in range(IMAGES):
        member, label = members[i % PICTURES], i * CLASSES // IMAGES
        builder.add(
            Record(f"n{label:08d}/n{label:08d}_{i:08d}.JPEG", tar.name, member.offset, member.size, label, 375, 500)
        )
    names = tuple(f"n{i:08d}" for i in range(CLASSES))
    info = builder.write(
        index_path(root, "train"),
        IndexInfo(split="train", source="benchmark", root=".", classes=names, class_names=names),
    )
    dataset = Dataset(
        root=root,
        name="start",
        source="benchmark",
        recipe="small",
        classes=CLASSES,
        train_images=IMAGES,
        val_images=0,
        created_by=created_by(),
        incomplete=None,
        fingerprints={"train": info.fingerprint},
    )
    (root / DATASET_FILE).write_bytes(encode_dataset(dataset))
    return root


def first_step(root: Path) -> float:
    """Seconds from process start until the first step has been told."""
    command = [sys.executable, "-m", "resnetctl", "train", "--max-steps", "2", "--set", "train.loss_every=1"]
    command += ["--batch-size", "16", "--data", root, "--runs", root / "runs", "--device", "cpu"]
    env = os.environ | {"RESNETCTL_PROGRESS_SECONDS": "0.001"}
    began = time.perf_counter()
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=env) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "step" in line and "/" in line:
                seconds = time.perf_counter() - began
                process.terminate()
                process.stderr.read()
                return seconds
    raise AssertionError("no step was told")


def import_torch() -> float:
    """Seconds that a process needs to import torch."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import torch"], check=True)
    return time.perf_counter() - began


if __name__ == "__main__":
    where = big_data_root(Path(sys.argv[1]) / "start")
    torch_seconds = min(import_torch() for _ in range(2))
    whole = first_step(where)
    figures = {"first_step_s": whole, "import_torch_s": torch_seconds, "ours_s": whole - torch_seconds}
    print(json.dumps(figures))
