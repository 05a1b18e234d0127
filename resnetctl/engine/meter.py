"""A run's training rate, and the time it waits for data."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch

_WINDOW_SECONDS = 5.0


@dataclass
class Meter:
    """Time in training since the loss was last read, and over the whole run; pauses do not count."""

    began: float = field(default_factory=time.perf_counter)
    since: float = field(default_factory=time.perf_counter)
    """The end of the last reading or pause."""
    seconds: float = 0.0
    """Since the last reading, before the last pause."""
    steps: int = 0
    waited: float = 0.0
    total_steps: int = 0
    total_waited: float = 0.0
    training_seconds: float = 0.0
    images_per_second: float = 0.0
    waiting: float = 0.0

    def close_window(self, global_batch: int) -> None:
        """The loss was read: rate and waiting now cover the steps since the previous reading."""
        self.pause()
        seconds = max(self.seconds, 1e-9)
        self.images_per_second = self.steps * global_batch / seconds
        self.waiting = min(1.0, self.waited / seconds)
        self.total_steps += self.steps
        self.total_waited += self.waited
        self.training_seconds += seconds
        self.seconds, self.steps, self.waited = 0.0, 0, 0.0

    def so_far(self, global_batch: int) -> tuple[float, float]:
        """(img/s, share of waiting) since the last reading if that is long enough ago, else at that reading.

        0 in the first seconds of a run, whose first steps are slower.
        """
        seconds = self.seconds + time.perf_counter() - self.since
        if seconds < _WINDOW_SECONDS:
            return self.images_per_second, self.waiting
        return self.steps * global_batch / seconds, min(1.0, self.waited / seconds)

    def pause(self) -> None:
        """Until `go_on`, time does not count as training, as in an evaluation."""
        now = time.perf_counter()
        self.seconds += now - self.since
        self.since = now

    def go_on(self) -> None:
        """Training begins, or continues after a pause."""
        self.since = time.perf_counter()


class Timed:
    """An iterator that measures how long its consumer waits."""

    def __init__(self, items: Iterator[Any]) -> None:
        self._items = items
        self._seconds = 0.0

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        began = time.perf_counter()
        item = next(self._items)
        self._seconds += time.perf_counter() - began
        return item

    def take(self) -> float:
        """The seconds since the last call."""
        seconds, self._seconds = self._seconds, 0.0
        return seconds


class TimedOnGpu(Timed):
    """As Timed, but counts the time the GPU was idle while waiting for the next item.

    An event is queued after the GPU's work and another one when the item arrives: the time between them on the GPU's
    clock is idle time. Nothing waits for the GPU: events it has not reached yet are counted at a later call.
    """

    def __init__(self, items: Iterator[Any], device: torch.device) -> None:
        super().__init__(items)
        self._stream = torch.cuda.current_stream(device)
        self._open: deque[tuple[torch.cuda.Event, torch.cuda.Event]] = deque()

    def __next__(self) -> Any:
        done = self._event()
        item = next(self._items)
        self._open.append((done, self._event()))
        return item

    def _event(self) -> torch.cuda.Event:
        event = torch.cuda.Event(enable_timing=True)
        event.record(self._stream)
        return event

    def take(self) -> float:
        """The seconds known since the last call."""
        seconds = 0.0
        while self._open and self._open[0][1].query():
            done, there = self._open.popleft()
            seconds += done.elapsed_time(there) / 1000
        return seconds


def timed(items: Iterator[Any], device: torch.device) -> Timed:
    """`items`, timed as suits `device`."""
    return TimedOnGpu(items, device) if device.type == "cuda" else Timed(items)
