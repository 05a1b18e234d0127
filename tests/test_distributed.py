"""Who a process is: by torchrun's variables, by Slurm's, or alone; and a Slurm job that is requeued."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from resnetctl.distributed.group import as_lost_rank, joined
from resnetctl.distributed.world import World, first_host, has_launcher, is_launched, read_world
from resnetctl.errors import UsageError

TORCHRUN = {"RANK": "3", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "none"}
STEP = {
    "SLURM_JOB_ID": "4711",
    "SLURM_STEP_ID": "2",
    "SLURM_PROCID": "5",
    "SLURM_LOCALID": "1",
    "SLURM_STEP_NUM_TASKS": "11",
    "SLURM_STEP_TASKS_PER_NODE": "4(x2),3",
}
BATCH = {"SLURM_JOB_ID": "4711", "SLURM_PROCID": "0", "SLURM_NTASKS": "16"}


def test_alone():
    assert read_world({}) == World()


def test_torchrun():
    world = read_world(TORCHRUN)
    assert (world.rank, world.size, world.local_rank, world.local_size) == (3, 8, 1, 2)
    assert world.launch.startswith("torchrun none ")
    assert has_launcher(TORCHRUN)
    assert not is_launched(TORCHRUN)


def test_a_step_of_slurm():
    world = read_world(STEP)
    assert (world.rank, world.size, world.local_rank, world.local_size) == (5, 11, 1, 4)
    assert (world.launch, world.restarts) == ("slurm 4711.2", 0)
    assert read_world({**STEP, "SLURM_RESTART_COUNT": "2"}).restarts == 2
    assert not has_launcher(STEP)


def test_a_batch_script_is_one_process_whatever_it_will_start():
    assert read_world(BATCH) == World(launch="slurm 4711.batch")


def test_a_requeued_job_is_the_same_launch_under_our_own_launcher_too():
    ranks = {**BATCH, "RESNETCTL_LAUNCH": "/tmp/x", "RANK": "1", "WORLD_SIZE": "2"}
    assert read_world(ranks).launch == read_world({**ranks, "RESNETCTL_LAUNCH": "/tmp/y"}).launch == "slurm 4711.batch"
    assert is_launched(ranks)


@pytest.mark.parametrize("change", [{"RANK": "x"}, {"RANK": "8"}, {"RANK": "-1"}, {"WORLD_SIZE": "0"}])
def test_numbers_that_cannot_be(change):
    with pytest.raises(UsageError, match="the environment says"):
        read_world(TORCHRUN | change)


@pytest.mark.parametrize(
    ("nodes", "host"),
    [
        ("localhost", "localhost"),
        ("gpu[08-11,20],login", "gpu08"),
        ("gpu[3]", "gpu3"),
        ("a1,a2", "a1"),
        ("rack[1-2]-node", "rack1-node"),
    ],
)
def test_first_host(nodes, host):
    assert first_host(nodes) == host


@pytest.mark.parametrize(
    "message", ["Connection closed by peer [127.0.0.1]:1", "[../gloo/x.cc] Timed out waiting 600000ms", "Broken pipe"]
)
def test_a_lost_rank_is_known_by_its_message(message):
    assert as_lost_rank(RuntimeError(message)).exit_code == 75


def test_other_errors_are_no_lost_ranks():
    assert as_lost_rank(RuntimeError("shape mismatch")) is None
    assert as_lost_rank(ValueError("Connection closed")) is None


def gather(rank: int, port: int, kept: str, results) -> None:
    os.environ.update(RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="localhost", MASTER_PORT=str(port))
    os.environ["TORCHELASTIC_USE_AGENT_STORE"] = kept
    with joined(read_world(os.environ)) as group:
        results.append((group.all_gather(rank), group.claim_error()))
        group.all_gather(None)


def test_ranks_that_are_started_again_meet_on_a_store_that_knows_those_before():
    """As under torchrun's c10d rendezvous on several nodes, where they would wait for ranks that are gone."""
    store = torch.distributed.TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
    context = torch.multiprocessing.get_context("spawn")
    results = context.Manager().list()
    for start in (1, 2):
        torch.multiprocessing.spawn(gather, (store.port, "True", results), nprocs=2)
        assert len(results) == 2 * start
    assert [gathered for gathered, _ in results] == [[0, 1]] * 4
    assert [sum(claimed for _, claimed in results[i : i + 2]) for i in (0, 2)] == [1, 1]


# --- as srun starts tasks -----------------------------------------------------------------------------------------


def tasks(folder: Path, data: Path, *, restarts: int) -> list[subprocess.Popen]:
    """Two tasks of a step of job 4711 on this machine."""
    args = ("--arch", "resnet18", "--epochs", "40", "--batch-size", "12", "--device", "cpu", "--name", "run")
    values = ("data.train_size=32", "data.val_size=32", "data.val_resize=32", "checkpoint.every_minutes=60")
    args += tuple(a for v in values for a in ("--set", v)) + ("--max-steps", "30") * bool(restarts)
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


@pytest.mark.slow
def test_sigusr1_saves_and_the_requeued_job_goes_on(tmp_path):
    from resnetctl.data.prepare import prepare

    prepare(tmp_path / "data", kind="sample")
    first = tasks(tmp_path, tmp_path / "data", restarts=0)
    end = time.monotonic() + 120
    while not (tmp_path / "1").exists():
        assert time.monotonic() < end
        assert [task.poll() for task in first] == [None, None]
        time.sleep(0.05)
    for task in first:  # as --signal=USR1@300 does
        task.send_signal(signal.SIGUSR1)
    err, silent = (task.communicate(timeout=60)[1] for task in first)
    assert [task.returncode for task in first] == [143, 0]
    assert silent == ""
    (saved,) = (tmp_path / "run" / "checkpoints").glob("*.json")
    step = json.loads(saved.read_text())["step"]
    assert f"stopped after step {step} of" in err
    err, silent = (task.communicate(timeout=120)[1] for task in tasks(tmp_path, tmp_path / "data", restarts=1))
    assert f"started again: goes on with {tmp_path}/run" in err
    assert f"goes on after step {step}" in err
    assert "done: 30 steps" in err
    assert silent == ""


# --- torchrun on several nodes --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_rank_killed_under_torchrun_on_two_nodes(tmp_path):
    """Two agents that meet at one address: after the restart either may have the first rank."""
    from resnetctl.data.prepare import prepare

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
    assert said.count("started again: goes on with") == 1
    assert "done: 40 steps" in said


def second_rank(agents: list[int]) -> int:
    for pid in agents:
        for child in map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()):
            if b"RANK=1" in Path(f"/proc/{child}/environ").read_bytes().split(b"\0"):
                return child
    raise AssertionError("no second rank")
