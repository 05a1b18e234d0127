"""An error of one rank is told once, within seconds, and ends them all, whatever the others are doing."""

import os
import signal
import sys
import threading
import time

import pytest
import torch
import torch.distributed as dist

from resnetctl.distributed import watch
from resnetctl.distributed.group import EXIT_LOST, LostRankError, joined
from resnetctl.distributed.voice import one_voice
from resnetctl.distributed.world import World, read_world
from resnetctl.errors import DataError
from tests.distributed.ranks import number, run

COLLECTIVES = ("all_reduce", "all_gather_object", "broadcast", "broadcast_object_list", "barrier")


def tell(error: BaseException) -> int:
    print("told:", error)
    return getattr(error, "exit_code", 1)


def well() -> None:
    with joined(read_world(os.environ)) as group, one_voice(group, tell):
        print(group.all_gather(group.rank))
    print(dist.is_initialized(), "watch" in [thread.name for thread in threading.enumerate()])


def test_ranks_that_do_well_part_in_good_order():
    assert [(rank.code, rank.out) for rank in run(well, 3)] == [(0, "[0, 1, 2]\nFalse False\n")] * 3


def test_alone_nothing_changes():
    with pytest.raises(DataError), joined(World()) as group, one_voice(group, tell):
        raise DataError("a bad image")


def fail(busy: str) -> None:
    """The second rank's data are bad, while the others are in a collective, or wait for something else."""
    with joined(read_world(os.environ)) as group, one_voice(group, tell):
        group.all_gather(None)
        if group.rank == 1:
            for name in (*COLLECTIVES, "destroy_process_group"):
                setattr(dist, name, lambda *args, name=name, **options: print("entered:", name))
            raise DataError("a bad image", hint="mend it")
        if busy == "in a collective":
            group.all_gather(None)
        time.sleep(1000)


@pytest.mark.parametrize("busy", ["in a collective", "elsewhere"])
def test_an_error_is_told_by_its_rank_and_ends_all(busy):
    """The collectives' own timeout is ten minutes. None is entered after the error."""
    first, second, third = run(fail, 3, busy)
    assert (second.code, second.out) == (3, "told: rank 1: a bad image\n")
    assert (first.code, first.out) == (third.code, third.out) == (EXIT_LOST, "")


def bug() -> None:
    with joined(read_world(os.environ)) as group, one_voice(group, tell):
        if group.rank == 0:
            raise KeyError("a bug")
        time.sleep(1000)


@pytest.mark.slow
def test_a_bug_ends_all_too():
    first, second = run(bug, 2)
    assert (first.code, first.out) == (1, "told: 'a bug'\n")
    assert (second.code, second.out) == (EXIT_LOST, "")


def all_fail() -> None:
    with joined(read_world(os.environ)) as group, one_voice(group, tell):
        raise DataError("nothing here")


def test_an_error_that_all_have_is_told_once():
    ended = run(all_fail, 3)
    assert sorted(rank.code for rank in ended) == [3, EXIT_LOST, EXIT_LOST]
    assert "".join(rank.out for rank in ended).count("nothing here") == 1


def interrupt() -> None:
    with joined(read_world(os.environ)) as group, one_voice(group, tell):
        if group.rank == 0:
            sys.exit(143)
        time.sleep(1000)


@pytest.mark.slow
def test_an_exit_code_is_kept():
    assert [rank.code for rank in run(interrupt, 2)] == [143, EXIT_LOST]


def die(victim: str) -> None:
    with joined(read_world(os.environ)) as group, one_voice(group, tell):
        group.all_gather(None)
        if group.rank == int(victim):
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(1000)  # as one that waits for its GPU, in which a collective waits for the rank that is gone


@pytest.mark.parametrize("victim", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_a_killed_rank_ends_all_that_wait_for_their_gpu(victim):
    ended = run(die, 3, victim)
    assert [rank.code for rank in ended] == [-signal.SIGKILL if n == victim else EXIT_LOST for n in range(3)]
    told = "".join(rank.out for rank in ended)
    assert told.count("another rank is gone") == 1


def save() -> None:
    watch.GRACE_SECONDS = 0.5
    with joined(read_world(os.environ)) as group, one_voice(group, tell):
        group.all_gather(None)
        if group.rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        try:
            group.all_gather(None)
        except LostRankError:
            group.leaving.set()
            time.sleep(2)
            print("saved")
            raise
        time.sleep(1000)


def test_a_rank_that_is_leaving_is_not_hurried():
    first, _ = run(save, 2)
    assert first.out.startswith("saved\ntold: rank 0: another rank is gone")


@pytest.mark.slow
def test_a_rank_gone_in_the_middle_of_a_step():
    """While gradients are averaged."""
    first, second = run(average, 2)
    assert second.code == -signal.SIGKILL
    assert (first.code, first.out.count("another rank is gone")) == (EXIT_LOST, 1)


def average() -> None:
    with joined(read_world(os.environ)) as group, one_voice(group, tell):
        model = group.wrap_ddp(torch.nn.Linear(4, 4), torch.device("cpu"))
        for step in range(1000):
            if number() == 1 and step == 3:
                os.kill(os.getpid(), signal.SIGKILL)
            model(torch.ones(2, 4)).sum().backward()
