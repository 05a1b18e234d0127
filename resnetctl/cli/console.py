"""The one place that prints: results to stdout, everything else to stderr.

Text is never read as Rich markup, since file, class and run names come from outside.
"""

import functools
import math
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from resnetctl.errors import Interrupted, ResnetctlError, printable
from resnetctl.progress import Progress, silent

if TYPE_CHECKING:
    from rich.console import Console

JSON_VERSION = 1
"""Of the documents that `--json` prints: a field is added without a new version, and neither renamed nor removed."""

_quiet = False
_verbose = False
_json = False

_BAR_UPDATE_SECONDS = 0.1


def configure(quiet: bool | None = None, verbose: bool | None = None, json: bool | None = None) -> None:
    """Set what `-q`, `-v` and `--json` say; None leaves a setting as it is."""
    global _quiet, _verbose, _json
    _quiet = _quiet if quiet is None else quiet
    _verbose = _verbose if verbose is None else verbose
    _json = _json if json is None else json


def is_quiet() -> bool:
    """Whether `-q` hides notices and progress."""
    return _quiet


def is_verbose() -> bool:
    """Whether `-v` asks for details."""
    return _verbose


@functools.cache
def _console(stderr: bool) -> "Console":
    from rich.console import Console

    return Console(stderr=stderr, markup=False, highlight=False, emoji=False, soft_wrap=True)


def out() -> "Console":
    """The console of stdout, for results alone."""
    return _console(False)


def err() -> "Console":
    """The console of stderr, for everything that is not a result."""
    return _console(True)


def notice(text: str) -> None:
    """Say `text` on stderr unless `-q` was given."""
    if not _quiet:
        err().print(text)


def verbose(text: str) -> None:
    """Say `text` on stderr where `-v` was given."""
    if _verbose:
        err().print(text, style="dim")


def warn(text: str) -> None:
    """Say `warning: text` on stderr, whatever `-q` says."""
    _labelled("warning", "bold yellow", text)


def show_error(error: ResnetctlError) -> None:
    """Print `error: …` and, after an empty line, `hint: …` on stderr; an interruption by its name alone.

    With `--json` the error is a document on stdout too, unless the command has printed one already.
    """
    if isinstance(error, Interrupted):
        err().print(error.message)
    else:
        _labelled("error", "bold red", error.message)
    if error.hint:
        err().print()
        _labelled("hint", "bold cyan", error.hint)
    if _json:
        print_document("error", {"message": error.message, "hint": error.hint, "exit_code": error.exit_code})


def _labelled(label: str, style: str, text: str) -> None:
    from rich.text import Text

    err().print(Text.assemble((f"{label}:", style), " ", text))


def print_document(kind: str, fields: Mapping[str, Any]) -> None:
    """Write the one JSON document of a command to stdout: `kind`, `version`, and `fields`.

    `kind` is the command's name, such as `recipe list`, or `error`. Numbers that are not finite become null. Only the
    first document of a process is written, so that stdout as a whole is JSON.
    """
    global _json
    print_json({"kind": kind, "version": JSON_VERSION, **fields})
    _json = False


def print_json(document: Any) -> None:
    """Write `document` to stdout as one indented JSON document; numbers that are not finite become null."""
    import json

    sys.stdout.write(json.dumps(_finite(document), indent=2) + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return value


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], title: str | None = None) -> None:
    """Print a table on stdout: drawn on a terminal, aligned plain text with two spaces between columns elsewhere.

    A column whose cells are all numbers is aligned to the right. Columns that all have empty names get no head.
    """
    cells = [[printable(cell) for cell in row] for row in rows]
    right = [bool(rows) and all(isinstance(row[i], int | float) for row in rows) for i in range(len(columns))]
    if out().is_terminal:
        _draw_table(columns, cells, right, title)
        return
    if title:
        out().print(title)
    lines = [list(columns), *cells] if any(columns) else cells
    widths = [max((len(line[i]) for line in lines), default=0) for i in range(len(columns))]
    for line in lines:
        padded = (c.rjust(w) if r else c.ljust(w) for c, w, r in zip(line, widths, right, strict=True))
        out().print("  ".join(padded).rstrip())


def _draw_table(columns: Sequence[str], cells: list[list[str]], right: list[bool], title: str | None) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    if title:
        out().print(title, style="bold")
    drawn = Table(
        box=box.SIMPLE_HEAD if any(columns) else None,
        show_header=any(columns),
        pad_edge=False,
    )
    for name, is_number in zip(columns, right, strict=True):
        drawn.add_column(Text(name), justify="right" if is_number else "left", overflow="fold")
    for line in cells:
        drawn.add_row(*map(Text, line))
    out().print(drawn, soft_wrap=False)


@contextmanager
def progress() -> Iterator[Progress]:
    """Yield a `Progress` that draws a bar on a terminal's stderr, and elsewhere says a plain line now and then.

    Every 10 seconds, or what RESNETCTL_PROGRESS_SECONDS says, and at the end. Nothing with `-q`.
    """
    if _quiet:
        yield silent
    elif err().is_terminal:
        with _bars() as bars:
            yield bars
    else:
        lines = _PlainProgress()
        try:
            yield lines
        finally:
            lines.finish()


def progress_seconds() -> float:
    """Seconds between two plain lines of progress."""
    try:
        return max(0.0, float(os.environ.get("RESNETCTL_PROGRESS_SECONDS", "10")))
    except ValueError:
        return 10.0


@contextmanager
def _bars() -> Iterator[Progress]:
    from rich.progress import BarColumn, ProgressColumn, Task, TaskID, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars
    from rich.text import Text

    class Count(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(_count(int(task.completed), None if task.total is None else int(task.total)))

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text(_rate(task.description, speed))

    what_column = TextColumn("{task.description}", markup=False)
    columns = (what_column, BarColumn(), Count(), Rate(), TimeRemainingColumn())
    tasks: dict[str, TaskID] = {}
    next_update = 0.0
    # the redirects would send a result printed meanwhile to stderr, and can deadlock a fork
    with Bars(*columns, console=err(), redirect_stdout=False, redirect_stderr=False) as bars:

        def update(what: str, done: int, total: int | None) -> None:
            nonlocal next_update
            now = time.monotonic()
            if what not in tasks:
                tasks[what] = bars.add_task(printable(what), total=total)
            elif now < next_update and done != total:
                return
            next_update = now + _BAR_UPDATE_SECONDS
            bars.update(tasks[what], completed=done, total=total)

        yield update


def _count(done: int, total: int | None) -> str:
    """Nothing for work that is not counted, such as a measurement."""
    if total is None:
        return f"{done:,}" if done else ""
    return f"{done:,}/{total:,}"


def _rate(what: str, speed: float | None) -> str:
    """Images, or whatever is counted, a second; MB/s where `what` counts megabytes."""
    if not speed:
        return ""
    if what.endswith("(MB)"):
        return f"{speed:,.1f} MB/s" if speed < 9.95 else f"{speed:,.0f} MB/s"
    return f"{speed:,.0f}/s"


class _PlainProgress:
    """Progress for a log file: one line every few seconds and one when a piece of work ends."""

    def __init__(self) -> None:
        self._interval = progress_seconds()
        self._what: str | None = None
        self._done = 0
        self._total: int | None = None
        self._first = 0
        self._start = self._said = 0.0
        self._said_done: int | None = None

    def __call__(self, what: str, done: int, total: int | None) -> None:
        now = time.monotonic()
        if what != self._what:
            self.finish()
            self._what, self._first, self._start, self._said, self._said_done = what, done, now, now, None
        self._done, self._total = done, total
        if now - self._said >= self._interval:
            self._say(now)

    def finish(self) -> None:
        """Say where the present piece of work ended, unless that was said already."""
        if self._what is not None and self._said_done != self._done:
            self._say(time.monotonic())
        self._what = None

    def _say(self, now: float) -> None:
        seconds = now - self._start
        rate = (self._done - self._first) / seconds if seconds > 0 else 0.0
        parts = [_count(self._done, self._total), _rate(str(self._what), rate)]
        if self._total is not None and rate and self._done < self._total:
            parts.append(f"{duration((self._total - self._done) / rate)} left")
        else:
            parts.append(duration(seconds))
        err().print(f"{printable(self._what)}: {', '.join(filter(None, parts))}")
        self._said, self._said_done = now, self._done


def duration(seconds: float) -> str:
    """`seconds` as people write it: `0.4 s`, `12 s`, `3 min 20 s`, `2 h 05 min`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def size(count: float) -> str:
    """`count` bytes in binary units: `512 B`, `3.2 MiB`, `137 GiB`."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(count) < 1024 or unit == "TiB":
            break
        count /= 1024
    return f"{count:.0f} {unit}" if unit == "B" or count >= 99.95 else f"{count:.1f} {unit}"
