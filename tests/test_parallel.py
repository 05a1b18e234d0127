"""Work in several processes: its results, its progress, its errors, and no orphan left of it."""

import os
import signal
import sys
import time

import pytest

from resnetctl.errors import DataError, ResnetctlError
from resnetctl.parallel import advance, end_with_parent, in_parallel
from tests.process import start


def square(n: int) -> int:
    advance(n)
    return n * n


def refuse(n: int) -> int:
    raise DataError(f"bad {n}", hint="mend it")


def die(n: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return n


@pytest.mark.parametrize("workers", [0, 2])
def test_each_item_has_its_result_and_progress_counts_them_all(workers):
    told: list[int] = []
    assert sorted(in_parallel(square, range(10), workers=workers, tell=told.append)) == [n * n for n in range(10)]
    assert told == sorted(told)
    assert workers or told[-1] == 45


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_of_the_work_is_raised_with_its_hint(workers):
    with pytest.raises(DataError, match="bad") as caught:
        list(in_parallel(refuse, range(10), workers=workers))
    assert caught.value.hint == "mend it"


def test_a_killed_worker_is_an_error():
    with pytest.raises(ResnetctlError, match="a worker process was killed"):
        list(in_parallel(die, range(3), workers=1))


def parent() -> None:
    """Leave a child that would sleep for ever; print its number, and wait to be killed."""
    me = os.getpid()
    child = os.fork()
    if not child:
        end_with_parent(me)
        print(os.getpid(), flush=True)
    time.sleep(1000)


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
def test_a_process_ends_with_its_parent():
    with start(parent) as running:
        assert running.stdout
        assert int(running.stdout.readline())
        running.kill()
        assert running.stdout.read() == ""  # its other end closes when the child is gone


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
def test_a_process_whose_parent_is_gone_ends_at_once():
    child = os.fork()
    if not child:
        end_with_parent(os.getppid() + 1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
