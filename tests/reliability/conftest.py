"""A tiny data set, a run of a few seconds on it, and what a finished run left behind."""

import json
import random
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from resnetctl.data.index import Index, index_path
from resnetctl.data.prepare import prepare
from tests.zygote import Zygote

OPTIONS = (
    *("--arch", "resnet18", "--epochs", "3", "--batch-size", "12", "--workers", "1"),
    *("--set", "data.train_size=32", "--set", "data.val_size=32", "--set", "data.val_resize=32"),
    *("--set", "train.precision=fp32", "--set", "train.loss_every=3", "--set", "checkpoint.every_steps=2"),
)
"""17 steps of 12 of 70 images: epochs end inside batches, and the loss is read between two saves."""

TIMES = ("time", "seconds", "images_per_second", "waiting")


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> Path:
    """70 train and 23 val images of 3 classes."""
    root = tmp_path_factory.mktemp("reliability")
    prepare(root / "sample", kind="sample")
    index = Index(index_path(root / "sample", "train"))
    chosen = [i for i in range(len(index)) if index.label[i] < 3]
    random.Random(0).shuffle(chosen)
    for split, samples in (("train", chosen[:70]), ("val", chosen[70:93])):
        for i in samples:
            path = root / "tree" / split / f"class{index.label[i]}" / f"{i}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(index.read(i))
    prepare(root / "data", root / "tree")
    return root / "data"


@pytest.fixture
def broken(data, tmp_path) -> tuple[Path, list[Path]]:
    """A data set of one's own, and its train images."""
    tree = tmp_path / "broken" / "tree"
    shutil.copytree(data.parent / "tree", tree)
    prepare(tmp_path / "broken" / "data", tree)
    return tmp_path / "broken" / "data", sorted((tree / "train").glob("*/*.jpg"))


@pytest.fixture(scope="session")
def zygote(tmp_path_factory, data) -> Iterator[Zygote]:
    zygote = Zygote(tmp_path_factory.mktemp("zygote"), RESNETCTL_DATA=str(data))
    yield zygote
    zygote.close()


@dataclass
class Left:
    """What a run left behind."""

    tensors: dict[str, torch.Tensor]
    metrics: list[dict]
    samples: dict[tuple[int, int, int], str]
    """By step, rank and micro-batch."""


def steps(run: Path) -> list[int]:
    """The steps of the committed checkpoints."""
    return sorted(int(p.stem[5:]) for p in (run / "checkpoints").glob("step-*.json"))


def left(run: Path, trace: Path | None = None) -> Left:
    newest = run / "checkpoints" / f"step-{steps(run)[-1]:08d}.safetensors"
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    metrics = [{k: v for k, v in line.items() if k not in TIMES} for line in lines]
    return Left(load_file(newest), metrics, samples(trace) if trace else {})


def samples(trace: Path) -> dict[tuple[int, int, int], str]:
    """What was seen in each micro-batch; a step that was done again after a kill must have seen the same."""
    seen: dict[tuple[int, int, int], str] = {}
    for line in trace.read_text().splitlines():
        match = re.fullmatch(r"step (\d+) rank (\d+) part (\d+) (epochs .* samples .*)", line)
        part = (int(match[1]), int(match[2]), int(match[3]))
        assert seen.setdefault(part, match[4]) == match[4]
    return seen


def assert_same(a: Left, b: Left) -> None:
    assert a.tensors.keys() == b.tensors.keys()
    different = [k for k in a.tensors if a.tensors[k].numpy().tobytes() != b.tensors[k].numpy().tobytes()]
    assert different == []
    assert a.metrics == b.metrics
    assert a.samples == b.samples


@pytest.fixture(scope="session")
def whole(zygote, tmp_path_factory) -> Left:
    """The run that nobody interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    done = zygote.run("train", *OPTIONS, "--runs", folder, "--name", "whole", RESNETCTL_TRACE=str(folder / "trace"))
    assert done.returncode == 0, done.err
    result = left(folder / "whole", folder / "trace")
    assert len(result.samples) == 17
    return result
