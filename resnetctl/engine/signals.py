"""Ctrl-C, SIGTERM and Slurm's SIGUSR1: the first finishes the step, saves and stops; a second one quits at once."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

_REPEAT_SECONDS = 1.0  # more than unwinding takes before a run has begun


class StopRequest:
    """Whether, and by which signal, the run was asked to stop."""

    signal: int | None = None
    begun: bool = False
    """Whether there is something to finish and save; before that the first signal quits at once."""


@contextlib.contextmanager
def stop_on_signals(
    tell: Callable[[str], None], leave: Callable[[int], None], echo_seconds: float = 0.0
) -> Iterator[StopRequest]:
    """While inside, the first SIGINT, SIGTERM or SIGUSR1 is only recorded; a second one calls `leave` with its number.

    `leave` must end the process itself: an exception would be lost if the second signal arrives in a destructor or a
    fork. Before the run has begun the first signal raises KeyboardInterrupt, again every second until it gets through.
    `tell` is called at once, from a separate thread, since the handler may interrupt the main thread while it holds
    locks that printing needs. Repeated signals within `echo_seconds` count once: under a launcher a process also gets
    them from there.
    """
    request = StopRequest()
    noted, repeats, over = threading.Event(), threading.Event(), threading.Event()
    ends = 0.0

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal ends
        if repeats.is_set():
            repeats.clear()
            raise KeyboardInterrupt
        if request.signal is not None and time.monotonic() < ends:
            return
        if request.signal is not None:
            leave(request.signal)
            return
        request.signal, ends = number, time.monotonic() + echo_seconds
        noted.set()
        if not request.begun:
            raise KeyboardInterrupt

    def wait_and_tell() -> None:
        noted.wait()
        while not request.begun and not over.wait(_REPEAT_SECONDS):  # Python lost the exception, as in a destructor
            repeats.set()
            signal.pthread_kill(main, request.signal or signal.SIGINT)
        if request.begun and request.signal is not None:
            again = "Ctrl-C again" if request.signal == signal.SIGINT else "a second signal"
            name = "" if request.signal == signal.SIGINT else f"{signal.Signals(request.signal).name}: "
            tell(f"{name}finishing the step, then saving; {again} quits at once")

    main = threading.get_ident()
    teller = threading.Thread(target=wait_and_tell, daemon=True, name="signals")
    teller.start()
    before = {s: signal.signal(s, handle) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
    try:
        yield request
    finally:
        over.set()
        noted.set()
        teller.join(1)  # a blocked terminal must not delay the end
        for number, handler in before.items():
            signal.signal(number, handler)
