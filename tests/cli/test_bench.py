import json
import os
import subprocess
import sys

import pytest

_SMALL = ("--set", "model.arch=resnet18", "--set", "data.train_size=32", "--batch-size", "16", "--seconds", "0.1")


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    root = tmp_path_factory.mktemp("bench")
    assert resnetctl(root, "prepare", "--source", "sample").returncode == 0
    return root


def resnetctl(root, *args):
    env = os.environ | {"RESNETCTL_DATA": str(root / "data"), "RESNETCTL_RUNS": str(root / "runs")}
    return subprocess.run(
        [sys.executable, "-m", "resnetctl", *args], env=env, capture_output=True, text=True, timeout=300, check=False
    )


def test_bench_measures_each_part_and_both(sample):
    done = resnetctl(sample, "bench", "--device", "cpu", *_SMALL, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    for part in ("loader", "model", "train"):
        rate = found["measured"][part]["rate"]
        assert 0 < rate["low"] <= rate["median"] <= rate["high"]
    assert 0 <= found["measured"]["train"]["waiting"] <= 1
    assert not (sample / "runs").exists(), "a measurement leaves no run behind"


def test_bench_of_one_part_as_a_table(sample):
    done = resnetctl(sample, "bench", "loader", "--workers", "1", *_SMALL)
    assert done.returncode == 0, done.stderr
    assert "img/s" in done.stdout
    assert "loader" in done.stdout
    assert "model" not in done.stdout


def test_plan_tells_time_limit_and_what_fits(sample):
    args = ("--device", "cpu", "--set", "model.arch=resnet18", "--set", "data.train_size=32", "--seconds", "0.1")
    done = resnetctl(sample, "plan", *args, "--epochs", "3", "--batch-size", "16", "--json")
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    assert made["limits"] in ("loader", "model")
    assert made["steps"] == 3 * 2000 // 16
    assert made["run_seconds"] > 3 * made["epoch_seconds"] * 0.99
    assert made["largest_micro_batch"] >= made["micro_batch"] == 16
    assert made["advice"]
    table = resnetctl(sample, "plan", *args)
    assert table.returncode == 0, table.stderr
    for word in ("limited by", "workers", "memory", "/dev/shm", "an epoch", "would help"):
        assert word in table.stdout


def test_without_a_data_set_the_way_to_one_is_told(tmp_path):
    for command in ("bench", "plan"):
        done = resnetctl(tmp_path, command)
        assert done.returncode == 3
        assert "hint:" in done.stderr
