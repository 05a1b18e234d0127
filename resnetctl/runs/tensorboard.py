"""A run's metrics as an event file for TensorBoard, made from the lines of metrics.jsonl alone.

A resumed run rewrites the file from its metrics, so that no step is there twice, whatever a killed process lost, and a
run that enables events later has its past too.
"""

from __future__ import annotations

import io
import math
import os
import re
import time
from typing import Any

from resnetctl.errors import ResnetctlError
from resnetctl.files import write_all
from resnetctl.runs.folder import Run
from resnetctl.runs.metrics import entries

_OURS = re.compile(r"events\.out\.tfevents\.\d{10}\.resnetctl")
_TAGS = {
    "train": ("loss", "lr", "grad_norm", "images_per_second", "waiting"),
    "eval": ("top1", "top5", "raw_top1", "loss"),
}


def check_tensorboard() -> None:
    """Raise ResnetctlError if the package tensorboard is not installed."""
    try:
        from tensorboard.compat.proto import event_pb2  # noqa: F401
    except ImportError:
        raise ResnetctlError(
            "train.tensorboard = true needs the package tensorboard",
            hint="pip install 'resnetctl[tensorboard]', or turn it off with --set train.tensorboard=false",
        ) from None


class EventFile:
    """The event file of a training run; `log` takes the lines of metrics.jsonl."""

    def __init__(self, run: Run) -> None:
        folder = run.events
        folder.mkdir(exist_ok=True)
        before = sorted(path for path in folder.iterdir() if _OURS.fullmatch(path.name))
        # a running TensorBoard reads the last file to its end, then switches to one with a later name
        for path in before[:-1]:
            path.unlink()
        for path in before[-1:]:
            os.truncate(path, 0)
        now = max([int(time.time()), *(int(path.name.split(".")[3]) + 1 for path in before)])
        self.path = folder / f"events.out.tfevents.{now:010d}.resnetctl"
        self._append(b"".join([*_beginning(), *(_record(line) for line in entries(run.metrics))]))

    def log(self, line: dict[str, Any]) -> None:
        """Append a line of the metrics."""
        self._append(_record(line))

    def _append(self, data: bytes) -> None:
        # opened each time, so that forked loader processes do not inherit it
        with self.path.open("ab", buffering=0) as file:
            write_all(file.fileno(), data)


def _beginning() -> list[bytes]:
    """The format's version, and an instruction to a running TensorBoard to discard what it has read."""
    from tensorboard.compat.proto.event_pb2 import Event, SessionLog

    first = Event(wall_time=0.0, file_version="brain.Event:2")
    return [_framed(first), _framed(Event(wall_time=0.0, step=0, session_log=SessionLog(status=SessionLog.START)))]


def _record(line: dict[str, Any]) -> bytes:
    """A line of the metrics as a record; empty for an incomplete one."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary

    kind, step, when = line.get("kind"), line.get("step"), line.get("time")
    if kind not in _TAGS or not isinstance(step, int):
        return b""
    room = "train" if kind == "train" else "val"
    values = [
        Summary.Value(tag=f"{room}/{name}", simple_value=value)
        for name in _TAGS[kind]
        if isinstance(value := line.get(name), int | float) and math.isfinite(value)
    ]
    wall_time = float(when) if isinstance(when, int | float) else 0.0
    return _framed(Event(wall_time=wall_time, step=step, summary=Summary(value=values))) if values else b""


def _framed(event: Any) -> bytes:
    from tensorboard.summary.writer.record_writer import RecordWriter

    file = io.BytesIO()
    RecordWriter(file).write(event.SerializeToString())
    return file.getvalue()
