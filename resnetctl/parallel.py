"""Maps a function over items in several processes, with a common progress count."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import Any, TypeVar

from resnetctl.errors import ResnetctlError

Item = TypeVar("Item")
Result = TypeVar("Result")

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_TELL_SECONDS = 0.25
_AHEAD = 4  # items queued per worker


class _Stopped(Exception):
    """The main process has stopped the work."""


_advance: Callable[[int], None] = lambda count: None  # noqa: E731


def advance(count: int) -> None:
    """Called from the work: `count` more units are done."""
    _advance(count)


def end_with_parent(parent: int) -> None:
    """On Linux, have the kernel kill this process when its `parent` ends, however that happens.

    An orphan would continue writing. If the parent is gone already, this process exits here.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it ended before the line above
            os._exit(1)


def in_parallel(
    work: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    workers: int,
    start: Callable[[], None] | None = None,
    tell: Callable[[int], None] = lambda done: None,
) -> Iterator[Result]:
    """Results of `work` on `items`, in any order, from `workers` processes (0: this one), each prepared by `start`.

    `tell` is called from time to time with the total of `advance`. A worker's exception is raised here.
    Raises ResnetctlError if a worker is killed.
    """
    if workers == 0:
        yield from _here(work, items, start, tell)
        return
    context = multiprocessing.get_context("spawn")  # a fork would copy the thread that draws the bar
    counter, stop = context.Value("q", 0), context.Event()
    pool = ProcessPoolExecutor(workers, context, _start, (os.getpid(), counter, stop, start))
    left = iter(items)
    waiting: set[Future[Result]] = set()
    try:
        while True:
            waiting |= {pool.submit(work, item) for item in islice(left, _AHEAD * workers - len(waiting))}
            if not waiting:
                break
            ready, waiting = wait(waiting, timeout=_TELL_SECONDS, return_when=FIRST_COMPLETED)
            tell(counter.value)
            for future in ready:
                yield future.result()
    except BrokenProcessPool as error:
        raise ResnetctlError(
            "a worker process was killed",
            hint="out of memory? (see dmesg) Try fewer --workers",
        ) from error
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)


def _here(
    work: Callable[[Item], Result],
    items: Iterable[Item],
    start: Callable[[], None] | None,
    tell: Callable[[int], None],
) -> Iterator[Result]:
    global _advance
    done = 0

    def add(count: int) -> None:
        nonlocal done
        done += count
        tell(done)

    before, _advance = _advance, add
    try:
        if start:
            start()
        for item in items:
            yield work(item)
    finally:
        _advance = before


def _start(parent: int, counter: Any, stop: Any, start: Callable[[], None] | None) -> None:
    global _advance
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the main process's to handle
    end_with_parent(parent)

    def add(count: int) -> None:
        if stop.is_set():
            raise _Stopped
        with counter.get_lock():
            counter.value += count

    _advance = add
    if start:
        start()
