"""Shows a run's events on a terminal (a redrawn line) or in a log (a line from time to time)."""

from __future__ import annotations

import math
import shlex
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from resnetctl.cli.console import is_live, live_line, say
from resnetctl.cli.live import Bar, Field, Live, fit
from resnetctl.engine.events import (
    Evaluated,
    Evaluating,
    Event,
    Finished,
    Notice,
    Preparing,
    RunningLoss,
    Saved,
    Saving,
    Started,
    Stepped,
)
from resnetctl.errors import counted, printable
from resnetctl.units import duration, size

if TYPE_CHECKING:
    from rich.console import Console

Render = Callable[[Event], None]
MOST_FOR_TOP1 = 5
"""Number of classes up to which top-5 is always 100 % and not shown."""


@contextmanager
def renderer(console: Console, *, quiet: bool, verbose: bool, seconds: float, options: str = "") -> Iterator[Render]:
    """Show events on `console`: with a redrawn line on a terminal, else with a progress line every `seconds`.

    `options`: for the commands suggested at the end, such as ` --data /disk/imagenet`.
    """
    if quiet:
        yield lambda event: None
    elif is_live(console):
        with live_line(console) as line:
            yield _one_at_a_time(_draw(console, verbose, options, line))
    else:
        yield _one_at_a_time(_log(console, verbose, options, seconds))


def _one_at_a_time(show: Render) -> Render:
    """`show`, synchronised for several threads: signals are reported from a separate one."""
    lock = threading.Lock()

    def in_turn(event: Event) -> None:
        with lock:
            show(event)

    return in_turn


def _draw(console: Console, verbose: bool, options: str, line: Live) -> Render:
    status = _Status()

    def show(event: Event) -> None:
        before = status.doing
        status.take(event)
        if isinstance(event, Finished):
            line.close()
        for parts in _lasting(event, status, verbose, options):
            say(fit(parts, console.width - 1) if len(parts) > 1 else parts[0].text, to=console)
        if not isinstance(event, Finished):
            line.draw(status.parts(), now=status.doing.split()[:1] != before.split()[:1])

    return show


def _log(console: Console, verbose: bool, options: str, seconds: float) -> Render:
    status, last = _Status(), -math.inf
    columns = console.width - 1 if console.is_terminal else sys.maxsize

    def show(event: Event) -> None:
        nonlocal last
        status.take(event)
        lasting = _lasting(event, status, verbose, options)
        for parts in lasting:
            say(fit(parts, columns) if len(parts) > 1 else parts[0].text, to=console)
        if not lasting and time.monotonic() - last >= seconds:
            parts = status.fields(event)
            if parts:
                say(fit(parts, columns), to=console)
                last = time.monotonic()

    return show


class _Status:
    """A run's status between permanent lines."""

    def __init__(self) -> None:
        self.doing = "starting"
        self.loss: float | None = None
        self.classes = 0
        self.at: Stepped | None = None

    def take(self, event: Event) -> None:
        """Update the status from `event`."""
        match event:
            case Preparing():
                self.doing = event.what
            case Started():
                self.classes, self.doing = event.classes, "first step"
            case Stepped():
                self.at, self.doing = event, ""
                self.loss = self.loss if event.loss is None else event.loss
            case Evaluating():
                self.doing = f"evaluating {event.images:,}/{event.total:,}"
            case Saving():
                self.doing = "saving"
            case Evaluated() | Saved():
                self.doing = ""

    def parts(self) -> Sequence[Field | Bar]:
        """For a line on a terminal: the step and the time left are kept longest."""
        e = self.at
        if e is None:
            return [Field(self.doing, 0)]
        rate = e.images_per_second
        return [
            Field(f"epoch {e.epoch_number}/{e.epochs}", 3),
            Field(f"step {e.step:,}/{e.steps:,}", 0),
            Bar(e.step / e.steps, 5),
            Field(self.doing, 2),
            Field("" if self.doing else f"loss {_loss(self.loss)}", 2),
            Field(f"lr {e.lr:.3g}", 7),
            Field(f"{rate:,.0f} img/s" if rate else "", 4),
            Field(f"wait {100 * e.waiting:.0f} %" if rate else "", 6),
            Field(f"ETA {duration(e.eta_seconds)}" if rate else "", 1),
        ]

    def fields(self, event: Event) -> list[Field]:
        """For a line of a log; empty if there is nothing to log."""
        e = self.at
        if isinstance(event, Evaluating):
            return [Field(f"evaluating: {event.images:,}/{event.total:,} images", 0)]
        if e is None or not isinstance(event, Stepped):
            return []
        rate = e.images_per_second
        return [
            Field(f"epoch {min(e.epoch, e.epochs):.2f}/{e.epochs}", 3),
            Field(f"step {e.step:,}/{e.steps:,}", 0),
            Field(f"loss {_loss(self.loss, 4)}", 2),
            Field(f"lr {e.lr:.4g}", 6),
            Field(f"{rate:,.0f} img/s" if rate else "", 4),
            Field(f"waiting {100 * e.waiting:.0f} %" if rate else "", 5),
            Field(f"{duration(e.eta_seconds)} left" if rate else "", 1),
        ]


def _loss(loss: float | None, digits: int = 3) -> str:
    return "-" if loss is None else f"{loss:.{digits}f}"


# --- permanent lines ------------------------------------------------------------------------------------------------


def _lasting(event: Event, status: _Status, verbose: bool, options: str) -> list[list[Field]]:
    """The permanent lines, each with its parts."""
    match event:
        case Started():
            text = _started(event)
        case Evaluated():
            return [_evaluated(event, status.classes)]
        case RunningLoss():
            text = f"[{event.epoch}, {event.mini_batch:5d}] loss: {event.loss:.3f}"
        case Saved() if verbose:
            text = f"saved step {event.step:,}: {size(event.bytes)} in {event.seconds:.2f} s, {printable(event.path)}"
        case Notice():
            text = f"warning: {printable(event.text)}" if event.is_warning else printable(event.text)
        case Finished():
            text = _finished(event, options)
        case _:
            return []
    return [[Field(line, 0)] for line in text.splitlines()]


def _evaluated(e: Evaluated, classes: int) -> list[Field]:
    """The parts of an epoch's line; parts of a higher rank are dropped on a narrow terminal."""
    best = ""
    if not e.is_best and e.best_top1 is not None and e.best_epoch is not None:
        best = f"best {e.best_top1:.2f} % (epoch {_epoch(e.best_epoch)})"
    return [
        Field(f"epoch {_epoch(e.epoch)}/{e.epochs}", 0),
        Field("" if e.train_loss is None else f"loss {_loss(e.train_loss)}", 2),
        Field(f"val loss {_loss(e.loss)}", 3),
        Field(f"top-1 {e.top1:.2f} %" + " (best)" * e.is_best, 0),
        Field(best, 1),
        Field("" if e.raw_top1 is None else f"without average {e.raw_top1:.2f} %", 5),
        Field(f"top-5 {e.top5:.2f} %" if classes > MOST_FOR_TOP1 else "", 4),
        Field(f"{size(e.memory_bytes)}" if e.memory_bytes else "", 6),
        Field(f"{e.images:,} images in {duration(e.seconds)}", 7),
    ]


def _epoch(epoch: float) -> str:
    """`10`, or `0.32` within an epoch."""
    return f"{epoch:.2f}".rstrip("0").rstrip(".")


def _started(e: Started) -> str:
    batch = f"{e.global_batch:,}"
    if e.global_batch != e.micro_batch * e.world_size:
        batch += f" (in parts of {e.micro_batch})"
    where = e.device if e.world_size == 1 else f"{e.world_size} × {e.device}"
    classes = "1 class" if e.classes == 1 else f"{e.classes:,} classes"
    lines = [
        f"{e.arch} on {where}, {e.precision}{', compiled' if e.compiled else ''}, "
        f"{counted(e.workers, 'loader worker')}; recipe {printable(e.recipe)}",
        f"{e.train_images:,} train and {e.val_images:,} val images of {classes}",
        f"{counted(e.epochs, 'epoch')}, {counted(e.steps, 'step')} of {batch} images",
        f"run {printable(e.run)}",
    ]
    return "\n".join(lines)


def _finished(e: Finished, options: str) -> str:
    if e.first_step >= e.steps:
        return _nothing_left(e, options)
    name = printable(shlex.quote(e.run.name))
    rate = ""
    if e.images_per_second:
        rate = f" ({e.images_per_second:,.0f} img/s, {100 * e.waiting:.0f} % of the time waiting for data)"
    if e.stopped_by is None:
        lines = [f"done: {counted(e.step, 'step')} in {duration(e.seconds)}{rate}"]
    else:
        lines = [f"stopped after step {e.step:,} of {e.steps:,}, {duration(e.seconds)}{rate}"]
    if e.best_top1 is not None and e.best_epoch is not None:
        lines.append(f"best top-1: {e.best_top1:.2f} % in epoch {_epoch(e.best_epoch)}")
    lines.append(f"checkpoint: {printable(e.checkpoint)}")
    if e.unreadable:
        lines.append(f"{counted(len(e.unreadable), 'image')} could not be read and had substitutes:")
        lines += [f"  {printable(name)}" for name in e.unreadable[:20]]
        if len(e.unreadable) > 20:
            lines.append(f"  and {len(e.unreadable) - 20:,} more; resnetctl verify lists them all")
    if e.stopped_by is not None:
        lines.append(f"to continue: resnetctl train --resume {name}{options}")
    elif e.val_images:
        lines.append(f"next: resnetctl eval {name}{options}")
    else:
        lines.append(f"next: resnetctl predict IMAGE --run {name}{options}")
    return "\n".join(lines)


def _nothing_left(e: Finished, options: str) -> str:
    name = printable(shlex.quote(e.run.name))
    text = f"the run {name} is complete: all {counted(e.step, 'step')} were done before"
    text += f", top-1 {e.top1:.2f} %" if e.top1 is not None else ""
    if e.steps < e.steps_planned:
        command = f"resnetctl train --resume {name}{options} --set train.max_steps=0"
        return f"{text}\nto continue to step {e.steps_planned:,}: {command}"
    return (
        f"{text}\nto train longer: a new run with more --epochs, or this one, its schedule stretched, with:\n"
        f"  resnetctl train --resume {name}{options} --allow-changes --epochs N"
    )
