"""Ranks as `srun` and torchrun start them: stopped, requeued, and killed."""

import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from torch.distributed.launcher.api import LaunchConfig

from resnetctl.data.prepare import prepare
from resnetctl.distributed import launch
from resnetctl.distributed.group import EXIT_LOST

# --- as srun starts tasks -----------------------------------------------------------------------------------------


def tasks(folder: Path, data: Path, *, restarts: int, max_steps: int | None = None) -> list[subprocess.Popen]:
    """Two tasks of a step of job 4711 on this machine."""
    args = ("--arch", "resnet18", "--epochs", "40", "--batch-size", "12", "--device", "cpu", "--name", "run")
    values = ("data.train_size=32", "data.val_size=32", "data.val_resize=32", "checkpoint.every_minutes=60")
    args += tuple(a for v in values for a in ("--set", v)) + (("--max-steps", str(max_steps)) if max_steps else ())
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("RESNETCTL_", "SLURM_"))}
    job = {
        "SLURM_JOB_ID": "4711",
        "SLURM_STEP_ID": "0",
        "SLURM_STEP_NUM_TASKS": "2",
        "SLURM_STEP_NODELIST": "localhost",
    }
    job |= {"SLURM_STEP_TASKS_PER_NODE": "2"} | ({"SLURM_RESTART_COUNT": str(restarts)} if restarts else {})
    return [
        subprocess.Popen(
            [sys.executable, "-m", "resnetctl", "train", *args, "--data", str(data), "--runs", str(folder)],
            env={**clean, **job, "SLURM_PROCID": str(n), "SLURM_LOCALID": str(n), "RESNETCTL_TRACE": f"{folder}/{n}"},
            stderr=subprocess.PIPE,
            text=True,
        )
        for n in range(2)
    ]


def until_both_train(folder: Path, started: list[subprocess.Popen]) -> None:
    end = time.monotonic() + 120
    while not (folder / "1").exists():
        assert time.monotonic() < end
        assert [task.poll() for task in started] == [None, None]
        time.sleep(0.05)


@pytest.mark.slow
def test_sigusr1_saves_and_the_requeued_job_goes_on(tmp_path):
    prepare(tmp_path / "data", kind="sample")
    first = tasks(tmp_path, tmp_path / "data", restarts=0)
    until_both_train(tmp_path, first)
    for task in first:  # as --signal=USR1@300 does
        task.send_signal(signal.SIGUSR1)
    err, silent = (task.communicate(timeout=300)[1] for task in first)
    assert [task.returncode for task in first] == [143, 0]
    assert silent == ""
    (saved,) = (tmp_path / "run" / "checkpoints").glob("*.json")
    step = json.loads(saved.read_text())["step"]
    assert f"stopped after step {step} of" in err
    again = tasks(tmp_path, tmp_path / "data", restarts=1, max_steps=step + 10)  # however far it came before the signal
    err, silent = (task.communicate(timeout=300)[1] for task in again)
    assert f"started again: continuing {tmp_path}/run" in err
    assert f"resuming after step {step}" in err
    assert f"done: {step + 10} steps" in err
    assert silent == ""


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_task_ends_the_other_one(victim, tmp_path):
    """Slurm itself leaves the others running, unless srun was told --kill-on-bad-exit."""
    prepare(tmp_path / "data", kind="sample")
    both = tasks(tmp_path, tmp_path / "data", restarts=0)
    until_both_train(tmp_path, both)
    both[victim].kill()
    outputs = [task.communicate(timeout=60)[1] for task in both]
    other = 1 - victim
    assert both[other].returncode == EXIT_LOST
    assert outputs[other].count(f"error: rank {other}: another rank is gone") == 1
    assert "resnetctl train --resume" in outputs[other]
    assert "Traceback" not in outputs[other]


def test_the_readmes_job_gives_each_task_its_cores():
    """Since Slurm 22.05 srun does not take over what sbatch was told."""
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    assert "#SBATCH --cpus-per-task" in readme
    assert 'srun --cpus-per-task "$SLURM_CPUS_PER_TASK"' in readme


# --- near the GPU ---------------------------------------------------------------------------------------------------


@pytest.fixture
def numa(tmp_path, monkeypatch):
    """Let this machine have so many NUMA nodes, and numactl or not."""

    def has(nodes: int, *, numactl: bool = True) -> None:
        for n in range(nodes):
            (tmp_path / f"node{n}").mkdir()
        monkeypatch.setattr(launch, "_NODES", tmp_path)
        monkeypatch.setattr(launch.shutil, "which", lambda name: "/usr/bin/numactl" if numactl else None)

    return has


def test_ranks_stay_on_the_cores_near_their_gpus(numa):
    numa(2)
    (option, value), *others = launch.near_their_gpus().items()
    assert others == []
    assert option in {field.name for field in dataclasses.fields(LaunchConfig)}
    assert value.affinity_mode.value == "node"
    assert value.should_fall_back_if_binding_fails


@pytest.mark.parametrize(("nodes", "numactl"), [(1, True), (0, True), (2, False)])
def test_where_there_is_one_node_or_no_numactl_they_run_anywhere(nodes, numactl, numa):
    numa(nodes, numactl=numactl)
    assert launch.near_their_gpus() == {}


# --- torchrun on several nodes --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_rank_killed_under_torchrun_on_two_nodes(tmp_path):
    """Two agents that meet at one address: after the restart either may have the first rank."""
    prepare(tmp_path / "data", kind="sample")
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    agent = ("--nnodes", "2", "--nproc-per-node", "1", "--max-restarts", "2", "--rdzv-backend", "c10d")
    args = ("--arch", "resnet18", "--epochs", "1", "--batch-size", "12", "--max-steps", "40", "--device", "cpu")
    for value in ("data.train_size=32", "data.val_size=32", "data.val_resize=32", "checkpoint.every_steps=5"):
        args += ("--set", value)
    command = [sys.executable, "-m", "torch.distributed.run", *agent, "--rdzv-endpoint", f"localhost:{port}"]
    command += ["-m", "resnetctl", "train", *args, "--name", "run", "--data", tmp_path / "data", "--runs", tmp_path]
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("RESNETCTL_", "SLURM_"))}
    files = [(tmp_path / f"agent{n}").open("w+") for n in range(2)]
    agents = [subprocess.Popen([str(c) for c in command], env=clean, stdout=f, stderr=f) for f in files]
    try:
        end = time.monotonic() + 120
        while not list((tmp_path / "run" / "checkpoints").glob("*.json")):
            assert time.monotonic() < end
            time.sleep(0.05)
        os.kill(second_rank([agent.pid for agent in agents]), signal.SIGKILL)
        assert [agent.wait(120) for agent in agents] == [0, 0]
    finally:
        for agent in agents:
            agent.kill()
    said = "".join((tmp_path / f"agent{n}").read_text() for n in range(2))
    assert said.count("started again: continuing") == 1
    assert "done: 40 steps" in said


def second_rank(agents: list[int]) -> int:
    for pid in agents:
        for child in map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()):
            if b"RANK=1" in Path(f"/proc/{child}/environ").read_bytes().split(b"\0"):
                return child
    raise AssertionError("no second rank")


def test_a_rank_whose_launcher_is_gone_waits_for_nobody():
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    env = {k: v for k, v in os.environ.items() if not k.startswith(("RESNETCTL_", "SLURM_", "TORCHELASTIC"))}
    env |= {"RESNETCTL_LAUNCH": "nowhere", "RESNETCTL_LAUNCHER_PID": str(gone.pid), "MASTER_ADDR": "localhost"}
    env |= {"MASTER_PORT": "1", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1"}
    done = subprocess.run([sys.executable, "-m", "resnetctl", "train"], env=env, capture_output=True, timeout=300)
    assert (done.returncode, done.stdout) == (1, b"")
