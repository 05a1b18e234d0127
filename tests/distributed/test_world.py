"""Which rank a process is: by torchrun's variables, by Slurm's, or alone."""

import pytest

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
    with pytest.raises(UsageError, match="the rank in the environment is"):
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
