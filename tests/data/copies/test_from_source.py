"""Copies of a source: killed on the way, in the way of others, without room."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from resnetctl.data.dataset import load_dataset
from resnetctl.data.prepare import prepare
from resnetctl.errors import DataError, ResnetctlError, UsageError
from tests.fixtures.holdings import contents, packed
from tests.fixtures.imagenet_archives import jpeg


def kill_when(command: list[str], happened: Callable[[], bool]) -> bool:
    """Run `command`, kill -9 its whole tree once `happened()`; whether it was still at work."""
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    while running.poll() is None and not happened():
        time.sleep(0.001)
    killed = running.poll() is None
    os.kill(running.pid, signal.SIGKILL)  # the main process alone: its workers must go by themselves
    running.wait()
    return killed


@pytest.mark.parametrize("how", ["--pack", "--extract"])
def test_kill_9_while_copying_then_again(how: str, tmp_path: Path) -> None:
    tree = tmp_path / "in"
    data = jpeg(1, 200, 300)
    for split, count in (("train", 2000), ("val", 200)):
        for name in ("a", "b"):
            (tree / split / name).mkdir(parents=True)
            for n in range(count):
                (tree / split / name / f"{n}.jpg").write_bytes(data + n.to_bytes(4, "big"))
    root = tmp_path / "data"
    command = [sys.executable, "-m", "resnetctl", "prepare", str(tree), "--data", str(root), how, "--workers", "2"]
    command += ["--shard-size", "200"] if how == "--pack" else []

    def written() -> int:
        if how == "--pack":
            return len(list((root / "shards").glob("*.index.safetensors"))) if (root / "shards").exists() else 0
        folder = root / "train" / "a"
        return len(list(folder.iterdir())) if folder.exists() else 0

    kills = 0
    for target in (2, 6) if how == "--pack" else (100, 900):
        kills += kill_when(command, lambda target=target: written() >= target)
        before = {
            p: p.with_name(p.name.replace("index.safetensors", "tar")).stat().st_mtime_ns
            for p in root.rglob("shards/*.index.safetensors")
        }
        assert not (root / "dataset.json").exists() or not kills
    assert kills
    time.sleep(0.3)
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(before) >= 4 if how == "--pack" else not before
    assert {p: p.with_name(p.name.replace("index.safetensors", "tar")).stat().st_mtime_ns for p in before} == before
    dataset = load_dataset(root)
    assert (dataset.train_images, dataset.val_images) == (4000, 400)
    assert dataset.fingerprints == prepare(tmp_path / "plain", tree).dataset.fingerprints
    assert contents(dataset) == contents(load_dataset(tmp_path / "plain"))
    assert not list(root.rglob("*resnetctl-tmp"))
    assert not (root / ".copying").exists()


def test_another_packing_in_the_same_place_is_refused(official_root: Path, tmp_path: Path) -> None:
    packed(tmp_path / "data", official_root)
    with pytest.raises(DataError, match="made in another way"):
        packed(tmp_path / "data", official_root, max_side=16)


def test_shards_are_not_packed_again(official_root: Path, tmp_path: Path) -> None:
    packed(tmp_path / "data", official_root)
    with pytest.raises(UsageError, match="packed shards already"):
        packed(tmp_path / "data", tmp_path / "data")


def test_a_folder_of_that_name_with_other_files_is_left_alone(official_root: Path, tmp_path: Path) -> None:
    (tmp_path / "data" / "shards").mkdir(parents=True)
    (tmp_path / "data" / "shards" / "thesis.tex").write_text("x")
    with pytest.raises(DataError, match=r"thesis.tex, which resnetctl did not write"):
        packed(tmp_path / "data", official_root)
    assert (tmp_path / "data" / "shards" / "thesis.tex").read_text() == "x"


def test_a_disk_without_room_is_told_before_anything_is_written(
    official_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil
    from collections import namedtuple

    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10, 10, 1000))
    with pytest.raises(ResnetctlError, match="are free"):
        packed(tmp_path / "data", official_root)
    assert not list(tmp_path.rglob("*.tar"))
