"""How fast a run goes, and how long it waits for data."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

_SLOW_SECONDS = 5.0


@dataclass
class Meter:
    """Time since the loss was last read, and over the whole run."""

    began: float = field(default_factory=time.perf_counter)
    read: float = field(default_factory=time.perf_counter)
    steps: int = 0
    waited: float = 0.0
    total_steps: int = 0
    total_waited: float = 0.0
    training_seconds: float = 0.0
    images_per_second: float = 0.0
    waiting: float = 0.0

    def close_window(self, global_batch: int) -> None:
        """The loss was read: rate and waiting are those of the steps since it was read before."""
        seconds = max(time.perf_counter() - self.read, 1e-9)
        self.images_per_second = self.steps * global_batch / seconds
        self.waiting = min(1.0, self.waited / seconds)
        self.total_steps += self.steps
        self.total_waited += self.waited
        self.training_seconds += seconds
        self.restart()

    def so_far(self, global_batch: int) -> tuple[float, float]:
        """(img/s, share of waiting) at the last reading, or where there was none yet in a slow run: since its start."""
        seconds = time.perf_counter() - self.read
        if self.images_per_second or seconds < _SLOW_SECONDS:
            return self.images_per_second, self.waiting
        return self.steps * global_batch / seconds, min(1.0, self.waited / seconds)

    def restart(self) -> None:
        """Leave out what was done since the last reading, such as an evaluation."""
        self.read, self.steps, self.waited = time.perf_counter(), 0, 0.0


class Timed:
    """An iterator that knows how long its consumer waited for it."""

    def __init__(self, items: Iterator[Any]) -> None:
        self._items = items
        self.seconds = 0.0

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        began = time.perf_counter()
        item = next(self._items)
        self.seconds += time.perf_counter() - began
        return item
