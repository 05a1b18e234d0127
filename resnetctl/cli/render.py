"""A run's events on a terminal (a live bar) or in a log (plain lines), on the console they are given."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

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
from resnetctl.errors import printable

if TYPE_CHECKING:
    from rich.console import Console

Render = Callable[[Event], None]


@contextmanager
def renderer(console: Console, *, quiet: bool, verbose: bool, seconds: float) -> Iterator[Render]:
    """Show events on `console`: a live bar on a terminal, else at most one progress line in `seconds`."""
    if quiet:
        yield lambda event: None
    elif console.is_terminal:
        with _bar(console, verbose) as show:
            yield show
    else:
        yield _lines(console, verbose, seconds)


def _say(console: Console, text: str) -> None:
    """A line of its own, whatever the console makes of markup: names from outside may look like it."""
    console.print(text, markup=False, highlight=False, emoji=False, soft_wrap=True)


def clock(seconds: float) -> str:
    """`1:02:03`, or `2:03` below an hour; `-:--` where it is not known."""
    if not math.isfinite(seconds):
        return "-:--"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _count(n: int, noun: str, plural: str = "") -> str:
    return f"{n:,} {noun if n == 1 else plural or noun + 's'}"


def _text(event: Event, verbose: bool) -> str | None:
    """The lasting line for an event, the same on a terminal and in a log."""
    match event:
        case Started():
            return _started(event)
        case Evaluated():
            return (
                f"epoch {event.epoch:>3}  step {event.step:,}  top-1 {event.top1:.2f} %  top-5 {event.top5:.2f} %  "
                f"val loss {event.loss:.4f}  ({event.images:,} images in {event.seconds:.1f} s)"
            )
        case RunningLoss():
            return f"[{event.epoch}, {event.mini_batch:5d}] loss: {event.loss:.3f}"
        case Saved() if verbose:
            size = f"{event.bytes / 2**20:.0f} MiB in {event.seconds:.2f} s"
            return f"saved step {event.step:,}: {size}, {printable(event.path)}"
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
    lines = [
        f"{e.arch} on {where}, {e.precision}{', compiled' if e.compiled else ''}, "
        f"{_count(e.workers, 'loader worker')}; recipe {printable(e.recipe)}",
        f"{e.train_images:,} train and {e.val_images:,} val images of {_count(e.classes, 'class', 'classes')}; "
        f"{_count(e.epochs, 'epoch')}, {_count(e.steps, 'step')} of {batch} images",
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
        lines.append(f"done: {_count(e.step, 'step')} in {clock(e.seconds)}")
    if e.images_per_second:
        lines[-1] += f" ({e.images_per_second:,.0f} img/s, {100 * e.waiting:.0f} % of it waiting for data)"
    if e.unreadable:
        lines.append(f"{_count(len(e.unreadable), 'image')} could not be read and had substitutes:")
        lines += [f"  {printable(name)}" for name in e.unreadable[:20]]
        if len(e.unreadable) > 20:
            lines.append(f"  and {len(e.unreadable) - 20:,} more; resnetctl verify lists them all")
    return "\n".join(lines)


def _nothing_left(e: Finished) -> str:
    name = printable(e.run.name)
    text = f"the run {name} is complete: all {_count(e.step, 'step')} were done before"
    text += f", top-1 {e.top1:.2f} %" if e.top1 is not None else ""
    if e.steps < e.steps_planned:
        return f"{text}\nto go on to step {e.steps_planned:,}: resnetctl train --resume {name} --set train.max_steps=0"
    return (
        f"{text}\nto train longer: a new run with more --epochs, or this one, its schedule stretched, with: "
        f"resnetctl train --resume {name} --allow-changes --epochs N"
    )


def _lines(console: Console, verbose: bool, seconds: float) -> Render:
    last = -math.inf
    loss: float | None = None

    def show(event: Event) -> None:
        nonlocal last, loss
        text = _text(event, verbose)
        if text is not None:
            _say(console, text)
            return
        if isinstance(event, Stepped):
            loss = loss if event.loss is None else event.loss
        now = time.monotonic()
        if now - last < seconds:
            return
        if isinstance(event, Stepped) and event.images_per_second:
            last = now
            _say(
                console,
                f"epoch {min(event.epoch, event.epochs):.2f}/{event.epochs}  step {event.step:,}/{event.steps:,}  "
                f"loss {_loss(loss, 4)}  lr {event.lr:.4g}  {event.images_per_second:,.0f} img/s  "
                f"waiting {100 * event.waiting:.0f} %  {clock(event.eta_seconds)} left",
            )
        elif isinstance(event, Evaluating):
            last = now
            _say(console, f"evaluating: {event.images:,}/{event.total:,} images")

    return show


@contextmanager
def _bar(console: Console, verbose: bool) -> Iterator[Render]:
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
    from rich.text import Text

    class Figures(TextColumn):
        def render(self, task: Any) -> Text:
            return Text(task.fields["figures"])

    # the redirects would send a result to stderr, and a fork while they are live can deadlock
    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=None),
        Figures(""),
        TimeElapsedColumn(),
        console=console,
        redirect_stdout=False,
        redirect_stderr=False,
        expand=True,
        refresh_per_second=8,
    ) as progress:
        run = progress.add_task("starting", total=None, figures="")
        evaluation: Any = None
        loss: float | None = None

        def show(event: Event) -> None:
            nonlocal evaluation, loss
            text = _text(event, verbose)
            if text is not None:
                if isinstance(event, Finished):
                    progress.update(run, visible=event.first_step < event.steps)
                    progress.stop()
                _say(progress.console, text)
            match event:
                case Stepped():
                    loss = loss if event.loss is None else event.loss
                    progress.update(run, description=_where(event), total=event.steps, completed=event.step)
                    progress.update(run, figures=_figures(event, loss))
                case Evaluating():
                    if evaluation is None:
                        evaluation = progress.add_task("evaluating", total=event.total, figures="")
                    progress.update(
                        evaluation, completed=event.images, figures=f"{event.images:,}/{event.total:,} images"
                    )
                case Evaluated() if evaluation is not None:
                    progress.remove_task(evaluation)
                    evaluation = None

        yield show


def _loss(loss: float | None, digits: int) -> str:
    return "-" if loss is None else f"{loss:.{digits}f}"


def _where(e: Stepped) -> str:
    epoch = min(e.epochs, math.ceil(e.epoch)) or 1
    return f"epoch {epoch}/{e.epochs} step {e.epoch_step:,}/{e.epoch_steps:,}"


def _figures(e: Stepped, loss: float | None) -> str:
    parts = [f"loss {_loss(loss, 3)}", f"lr {e.lr:.3g}"]
    if e.images_per_second:
        parts += [f"{e.images_per_second:,.0f} img/s", f"wait {100 * e.waiting:.0f}%", f"ETA {clock(e.eta_seconds)}"]
    return " ".join(parts)
