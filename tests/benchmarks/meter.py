"""Images per second of anything that yields batches, and what they cost in processor time. No imports of ours:
FFCV's environment reads it too."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

WARM_BATCHES = 5  # more than a loader with two workers fetches ahead


def cpu_seconds() -> float:
    """Processor time of this process and its living children."""
    pids = [str(os.getpid())]
    for pid in pids:
        for children in Path(f"/proc/{pid}/task").glob("*/children"):
            pids += children.read_text().split()
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def two_cores() -> None:
    """Keep this process and its children on two cores, whatever the machine has."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])


def rate(batches: Iterator[Any], batch: int, seconds: float) -> dict[str, float]:
    """img/s over at least `seconds` after the first batches, seconds to the first one, and CPU ms an image."""
    began = time.perf_counter()
    next(batches)
    first = time.perf_counter() - began
    for _ in range(WARM_BATCHES - 1):
        next(batches)
    began, cpu, images = time.perf_counter(), cpu_seconds(), 0
    while (elapsed := time.perf_counter() - began) < seconds:
        next(batches)
        images += batch
    cpu = cpu_seconds() - cpu
    return {"img_s": images / elapsed, "cpu_ms_per_image": 1e3 * cpu / images, "first_batch_s": first}
