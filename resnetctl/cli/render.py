"""A run's events on a terminal (a line drawn again and again) or in a log (a line now and then)."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from resnetctl.cli.console import is_live, live_line, say
from resnetctl.cli.live import Bar, Field, Live
from resnetctl.engine.events import (
    Evaluated,
    Evaluating,
    Event,
    Finished,
    Notice,
    RunningLoss,
    Saved,
    Started,
    Stepped,
)
from resnetctl.errors import counted, printable
from resnetctl.units import duration, size

if TYPE_CHECKING:
    from rich.console import Console

Render = Callable[[Event], None]


@contextmanager
def renderer(console: Console, *, quiet: bool, verbose: bool, seconds: float) -> Iterator[Render]:
    """Show events on `console`: on a line of their own on a terminal, else with a progress line every `seconds`."""
    if quiet:
        yield lambda event: None
    elif is_live(console):
        with live_line(console) as line:
            yield _one_at_a_time(_draw(console, verbose, line))
    else:
        yield _one_at_a_time(_log(console, verbose, seconds))


def _one_at_a_time(show: Render) -> Render:
    """`show` for a caller that a signal's handler may interrupt with an event of its own: that one comes after."""
    waiting: list[Event] = []
    busy = False

    def in_turn(event: Event) -> None:
        nonlocal busy
        waiting.append(event)
        if busy:
            return
        busy = True
        try:
            while waiting:
                show(waiting.pop(0))
        finally:
            busy = False

    return in_turn


def _draw(console: Console, verbose: bool, line: Live) -> Render:
    status = _Status()

    def show(event: Event) -> None:
        before = status.doing
        status.take(event)
        text = _lasting(event, verbose)
        if isinstance(event, Finished):
            line.close()
        if text is not None:
            say(text, to=console)
        if not isinstance(event, Finished):
            line.draw(status.parts(), now=status.doing.split()[:1] != before.split()[:1])

    return show


def _log(console: Console, verbose: bool, seconds: float) -> Render:
    status, last = _Status(), -math.inf

    def show(event: Event) -> None:
        nonlocal last
        status.take(event)
        text = _lasting(event, verbose)
        if text is None and time.monotonic() - last >= seconds:
            text = status.line(event)
            last = time.monotonic() if text is not None else last
        if text is not None:
            say(text, to=console)

    return show


class _Status:
    """What is known of a run between its lasting lines."""

    def __init__(self) -> None:
        self.doing = "starting"
        self.loss: float | None = None
        self.at: Stepped | None = None

    def take(self, event: Event) -> None:
        """Note what `event` tells."""
        if isinstance(event, Stepped):
            self.at, self.doing = event, ""
            self.loss = self.loss if event.loss is None else event.loss
        elif isinstance(event, Evaluating):
            self.doing = f"evaluating {event.images:,}/{event.total:,}"
        elif isinstance(event, Evaluated):
            self.doing = ""

    def parts(self) -> Sequence[Field | Bar]:
        """For a line on a terminal: the step and the time that is left stay longest."""
        e = self.at
        if e is None:
            return [Field(self.doing, 0)]
        rate = e.images_per_second
        return [
            Field(_epoch(e), 2),
            Field(f"step {e.step:,}/{e.steps:,}", 0),
            Bar(e.step / e.steps, 5),
            Field(self.doing or f"loss {_loss(self.loss, 3)}", 3),
            Field(f"lr {e.lr:.3g}", 7),
            Field(f"{rate:,.0f} img/s" if rate else "", 4),
            Field(f"wait {100 * e.waiting:.0f} %" if rate else "", 6),
            Field(f"ETA {duration(e.eta_seconds)}" if rate else "", 0),
        ]

    def line(self, event: Event) -> str | None:
        """For a log; None where nothing is worth a line."""
        e = self.at
        if isinstance(event, Evaluating):
            return f"evaluating: {event.images:,}/{event.total:,} images"
        if e is None or not isinstance(event, Stepped):
            return None
        text = f"epoch {min(e.epoch, e.epochs):.2f}/{e.epochs}  step {e.step:,}/{e.steps:,}  "
        text += f"loss {_loss(self.loss, 4)}  lr {e.lr:.4g}"
        if not e.images_per_second:  # not known yet
            return text
        rate = f"{e.images_per_second:,.0f} img/s  waiting {100 * e.waiting:.0f} %"
        return f"{text}  {rate}  {duration(e.eta_seconds)} left"


def _loss(loss: float | None, digits: int) -> str:
    return "-" if loss is None else f"{loss:.{digits}f}"


def _epoch(e: Stepped) -> str:
    return f"epoch {min(e.epochs, math.ceil(e.epoch)) or 1}/{e.epochs}"


# --- lines that stay ------------------------------------------------------------------------------------------------


def _lasting(event: Event, verbose: bool) -> str | None:
    """The lasting line for an event, the same on a terminal and in a log."""
    match event:
        case Started():
            return _started(event)
        case Evaluated():
            return (
                f"epoch {event.epoch:>3}  step {event.step:,}  top-1 {event.top1:.2f} %  top-5 {event.top5:.2f} %  "
                f"val loss {_loss(event.loss, 4)}  ({event.images:,} images in {duration(event.seconds)})"
            )
        case RunningLoss():
            return f"[{event.epoch}, {event.mini_batch:5d}] loss: {event.loss:.3f}"
        case Saved() if verbose:
            return f"saved step {event.step:,}: {size(event.bytes)} in {event.seconds:.2f} s, {printable(event.path)}"
        case Notice():
            return f"warning: {printable(event.text)}" if event.is_warning else printable(event.text)
        case Finished():
            return _finished(event)
    return None


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
    if 0 < e.first_step < e.steps:
        lines.append(f"goes on after step {e.first_step:,}")
    return "\n".join(lines)


def _finished(e: Finished) -> str:
    lines = []
    if e.first_step >= e.steps:
        return _nothing_left(e)
    if e.stopped_by is not None:
        lines.append(f"stopped after step {e.step:,} of {e.steps:,}; saved in {printable(e.checkpoint)}")
    else:
        lines.append(f"done: {counted(e.step, 'step')} in {duration(e.seconds)}")
    if e.images_per_second:
        lines[-1] += f" ({e.images_per_second:,.0f} img/s, {100 * e.waiting:.0f} % of it waiting for data)"
    if e.unreadable:
        lines.append(f"{counted(len(e.unreadable), 'image')} could not be read and had substitutes:")
        lines += [f"  {printable(name)}" for name in e.unreadable[:20]]
        if len(e.unreadable) > 20:
            lines.append(f"  and {len(e.unreadable) - 20:,} more; resnetctl verify lists them all")
    return "\n".join(lines)


def _nothing_left(e: Finished) -> str:
    name = printable(e.run.name)
    text = f"the run {name} is complete: all {counted(e.step, 'step')} were done before"
    text += f", top-1 {e.top1:.2f} %" if e.top1 is not None else ""
    if e.steps < e.steps_planned:
        return f"{text}\nto go on to step {e.steps_planned:,}: resnetctl train --resume {name} --set train.max_steps=0"
    return (
        f"{text}\nto train longer: a new run with more --epochs, or this one, its schedule stretched, with: "
        f"resnetctl train --resume {name} --allow-changes --epochs N"
    )
