"""Ctrl-C, SIGTERM and Slurm's SIGUSR1: once asks the run to finish its step, save and stop; twice quits at once."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

from resnetctl.errors import EXIT_INTERRUPTED, EXIT_TERMINATED


class StopRequest:
    """Whether, and by which signal, the run was asked to stop."""

    signal: int | None = None


def exit_code(number: int) -> int:
    """130 for Ctrl-C, 143 for SIGTERM and SIGUSR1."""
    return EXIT_INTERRUPTED if number == signal.SIGINT else EXIT_TERMINATED


@contextlib.contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """While inside, the first SIGINT, SIGTERM or SIGUSR1 only notes itself; a second one raises KeyboardInterrupt."""
    request = StopRequest()

    def handle(number: int, frame: FrameType | None) -> None:
        if request.signal is not None:
            raise KeyboardInterrupt
        request.signal = number

    before = {s: signal.signal(s, handle) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
