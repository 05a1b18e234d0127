"""All printing: results to stdout, everything else to stderr.

Text is never interpreted as Rich markup, since it may contain names of files, classes and runs.
"""

import functools
import math
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from resnetctl.cli.live import Bar, Field, Live
from resnetctl.errors import Interrupted, ResnetctlError, printable
from resnetctl.progress import Progress, silent
from resnetctl.units import duration as duration
from resnetctl.units import size as size

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

JSON_VERSION = 1
"""Version of `--json` documents: fields may be added without a new version, but not renamed or removed."""

_quiet = False
_verbose = False
_json = False

_live: Live | None = None
"""The line currently drawn."""


def configure(quiet: bool | None = None, verbose: bool | None = None, json: bool | None = None) -> None:
    """Apply `-q`, `-v` and `--json`; None leaves a setting unchanged."""
    global _quiet, _verbose, _json
    _quiet = _quiet if quiet is None else quiet
    _verbose = _verbose if verbose is None else verbose
    _json = _json if json is None else json


def is_quiet() -> bool:
    """Whether `-q` hides notices and progress."""
    return _quiet


def is_verbose() -> bool:
    """Whether `-v` enables details."""
    return _verbose


@functools.cache
def _console(stderr: bool) -> "Console":
    from rich.console import Console

    return Console(stderr=stderr, markup=False, highlight=False, emoji=False, soft_wrap=True)


def out() -> "Console":
    """The console of stdout, for results only."""
    return _console(False)


def err() -> "Console":
    """The console of stderr, for everything that is not a result."""
    return _console(True)


def is_live(console: "Console") -> bool:
    """Whether a line can be redrawn on `console`."""
    return console.is_terminal and not console.is_dumb_terminal


@contextmanager
def live_line(console: "Console") -> Iterator[Live]:
    """Yield a progress line; other output of this module appears above it."""
    global _live
    line = Live(console.file, lambda: console.width)
    before, _live = _live, line
    try:
        yield line
    finally:
        line.close()
        _live = before


def end_progress() -> None:
    """Remove the progress line for good: the command ends."""
    if _live is not None:
        _live.close()


def say(text: "str | Text", style: str | None = None, *, to: "Console | None" = None) -> None:
    """Write `text` on stderr, or another console, above the progress line."""
    with _live.paused() if _live else nullcontext():
        (to or err()).print(text, style=style, markup=False, highlight=False, emoji=False, soft_wrap=True)


def notice(text: str) -> None:
    """Write `text` to stderr unless `-q` was given."""
    if not _quiet:
        say(text)


def verbose(text: str) -> None:
    """Write `text` to stderr if `-v` was given."""
    if _verbose:
        say(text, "dim")


def warn(text: str) -> None:
    """Write `warning: text` to stderr, even with `-q`."""
    _labelled("warning", "bold magenta", text)


def show_error(error: ResnetctlError) -> None:
    """Print `error: …` and, after an empty line, `hint: …` on stderr; an interruption by its name alone.

    The progress line ends. With `--json` the error is also a document on stdout, unless the command has already printed
    one.
    """
    end_progress()
    if isinstance(error, Interrupted):
        say(error.message)
    else:
        _labelled("error", "bold red", error.message)
    if error.hint:
        say("")
        _labelled("hint", "bold cyan", error.hint)
    if _json:
        print_document("error", {"message": error.message, "hint": error.hint, "exit_code": error.exit_code})


def _labelled(label: str, style: str, text: str) -> None:
    from rich.text import Text

    say(Text.assemble((f"{label}:", style), " ", text))


def print_document(kind: str, fields: Mapping[str, Any]) -> None:
    """Write the one JSON document of a command to stdout: `kind`, `version`, and `fields`.

    `kind` is the command's name, such as `recipe list`, or `error`. Numbers that are not finite become null. Only the
    first document of a process is written, so that stdout as a whole is JSON.
    """
    import json

    global _json
    document = {"kind": kind, "version": JSON_VERSION, **fields}
    sys.stdout.write(json.dumps(_finite(document), indent=2) + "\n")
    _json = False


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return value


def table(
    columns: Sequence[str], rows: Sequence[Sequence[object]], title: str | None = None, *, spare: Sequence[str] = ()
) -> None:
    """Print a table on stdout: drawn on a terminal, aligned plain text with two spaces between columns elsewhere.

    Columns of numbers are right-aligned. Columns whose names are all empty get no header. On a narrow terminal,
    `spare` columns are dropped, in order, until the rest fits.
    """
    cells = [[printable(cell) for cell in row] for row in rows]
    right = [bool(rows) and all(isinstance(row[i], int | float) for row in rows) for i in range(len(columns))]
    if out().is_terminal:
        kept = _columns_that_fit(columns, cells, spare)
        _draw_table(
            [columns[i] for i in kept], [[row[i] for i in kept] for row in cells], [right[i] for i in kept], title
        )
        return
    if title:
        out().print(title)
    lines = [list(columns), *cells] if any(columns) else cells
    widths = [max((len(line[i]) for line in lines), default=0) for i in range(len(columns))]
    for line in lines:
        padded = (c.rjust(w) if r else c.ljust(w) for c, w, r in zip(line, widths, right, strict=True))
        out().print("  ".join(padded).rstrip())


_PROSE = 30  # a column with a cell longer than this is text, which may be wrapped
_GAP = 2


def _columns_that_fit(columns: Sequence[str], cells: list[list[str]], spare: Sequence[str]) -> list[int]:
    """The indices of the columns kept; dropped ones are mentioned on stderr."""
    kept = list(range(len(columns)))
    least = _least_widths(columns, cells)
    for name in spare:
        if sum(least[i] + _GAP for i in kept) <= out().width:
            break
        kept.remove(max(i for i in kept if columns[i] == name))
    if len(kept) < len(columns):
        notice(f"a wider terminal shows more: {', '.join(name for i, name in enumerate(columns) if i not in kept)}")
    return kept


def _least_widths(columns: Sequence[str], cells: list[list[str]]) -> list[int]:
    """The least width of each column of a table at which no word is broken."""
    from rich.cells import cell_len

    return [min(_PROSE, max(cell_len(line[i]) for line in [columns, *cells])) for i in range(len(columns))]


def _draw_table(columns: Sequence[str], cells: list[list[str]], right: list[bool], title: str | None) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    if title:
        out().print(title, style="bold")
    drawn = Table(
        box=box.SIMPLE_HEAD if any(columns) else None,
        show_header=any(columns),
        padding=(0, _GAP - 1, 0, 0),
        pad_edge=False,
    )
    least = _least_widths(columns, cells)
    if sum(width + _GAP for width in least) > out().width:
        least = [*least[:1], *(0 for _ in least[1:])]
    for name, is_number, width in zip(columns, right, least, strict=True):
        drawn.add_column(Text(name), justify="right" if is_number else "left", overflow="fold", min_width=width)
    for line in cells:
        drawn.add_row(*map(Text, line))
    out().print(drawn, soft_wrap=False)


@contextmanager
def progress() -> Iterator[Progress]:
    """Yield a `Progress` that redraws a line on a terminal's stderr, and elsewhere prints one from time to time.

    Every 10 seconds, or RESNETCTL_PROGRESS_SECONDS, and at the end of each piece of work. Nothing with `-q`.
    """
    if _quiet:
        yield silent
        return
    with live_line(err()) if is_live(err()) else nullcontext() as line:
        told = _Told(line)
        try:
            yield told
        finally:
            told.finish()


def progress_seconds() -> float:
    """Seconds between printed progress lines."""
    try:
        return max(0.0, float(os.environ.get("RESNETCTL_PROGRESS_SECONDS", "10")))
    except ValueError:
        return 10.0


class _Told:
    """Shows progress: drawn on `line`, or printed every few seconds; the end of each piece of work stays visible."""

    def __init__(self, line: Live | None) -> None:
        self._line = line
        self._interval = progress_seconds()
        self._what: str | None = None
        self._done = 0
        self._total: int | None = None
        self._first = 0
        self._start = self._said = 0.0
        self._said_done: int | None = None

    def __call__(self, what: str, done: int, total: int | None) -> None:
        now = time.monotonic()
        begins = what != self._what
        if begins:
            self.finish()
            self._what, self._first, self._start, self._said, self._said_done = what, done, now, now, None
        self._done, self._total = done, total
        if self._line is not None:
            self._draw(self._line, now, at_once=begins)
        elif now - self._said >= self._interval:
            self._say(now)

    def finish(self) -> None:
        """Print the end of the current piece of work, unless already printed."""
        if self._what is not None and self._said_done != self._done:
            self._say(time.monotonic())
        self._what = None

    def _draw(self, line: Live, now: float, *, at_once: bool) -> None:
        count, rate, time_left = self._facts(now)
        parts: list[Field | Bar] = [
            Field(printable(self._what), 2),
            Field(count, 1),
            Field(rate, 4),
            Field(time_left, 0),
        ]
        if self._total:
            parts.insert(1, Bar(self._done / self._total, 3))
        line.draw(parts, now=at_once)

    def _say(self, now: float) -> None:
        say(f"{printable(self._what)}: {', '.join(filter(None, self._facts(now)))}")
        self._said, self._said_done = now, self._done

    def _facts(self, now: float) -> tuple[str, str, str]:
        """The count, the rate, and the time left or taken."""
        seconds = now - self._start
        rate = (self._done - self._first) / seconds if seconds > 0 else 0.0
        if self._total is not None and rate and self._done < self._total:
            time_left = f"{duration((self._total - self._done) / rate)} left"
        else:
            time_left = duration(seconds)
        return _count(self._done, self._total), _rate(str(self._what), rate), time_left


def _count(done: int, total: int | None) -> str:
    """Empty for work that is not counted, such as a measurement."""
    if total is None:
        return f"{done:,}" if done else ""
    return f"{done:,}/{total:,}"


def _rate(what: str, speed: float) -> str:
    """Units per second; MB/s if `what` counts megabytes."""
    if not speed:
        return ""
    if what.endswith("(MB)"):
        return f"{speed:,.1f} MB/s" if speed < 9.95 else f"{speed:,.0f} MB/s"
    return f"{speed:,.0f}/s"
