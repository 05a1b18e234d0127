"""A progress line at the bottom of a terminal, redrawn in place."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import IO, NamedTuple

REDRAW_SECONDS = 0.1
_BAR_MIN, _BAR_MAX = 8, 40
_ERASE = "\r\x1b[J"  # to the end of the screen: a line that wrapped has several rows
_HIDE_CURSOR, _SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"
# without wrapping, text that is too wide stays on its row: the window may be narrower than it says, as some terminals
# report a new size only after they have shown it
_NO_WRAP, _WRAP = "\x1b[?7l", "\x1b[?7h"
RESTORE = _WRAP + _ERASE + _SHOW_CURSOR
"""Restores the terminal, for a process that ends without closing its line."""


class Field(NamedTuple):
    """A part of the line."""

    text: str
    rank: int
    """On a narrow terminal, fields of the highest rank are dropped first."""


class Bar(NamedTuple):
    """A part of the line that fills the remaining columns."""

    share: float
    """0 to 1."""
    rank: int


def fit(parts: Sequence[Field | Bar], width: int, *, colour: bool = False, ascii: bool = False) -> str:
    """`parts` on one line of at most `width` columns; a single text that is too long is truncated."""
    from rich.cells import cell_len, set_cell_size

    def columns(kept: Sequence[Field | Bar]) -> int:
        widths = [cell_len(part.text) if isinstance(part, Field) else _BAR_MIN for part in kept]
        return sum(widths) + 2 * (len(kept) - 1)

    kept = [part for part in parts if not isinstance(part, Field) or part.text]
    while len(kept) > 1 and columns(kept) > width:
        worst = max(part.rank for part in kept)
        kept.remove(next(part for part in reversed(kept) if part.rank == worst))
    bar_columns = min(_BAR_MAX, _BAR_MIN + width - columns(kept)) if kept else 0
    texts = [
        _bar(part.share, bar_columns, colour=colour, ascii=ascii)
        if isinstance(part, Bar)
        else part.text
        if cell_len(part.text) <= width
        else set_cell_size(part.text, width)
        for part in kept
    ]
    return "  ".join(texts)


def _bar(share: float, columns: int, *, colour: bool, ascii: bool) -> str:
    done = round(max(0.0, min(1.0, share)) * columns)
    full, empty = ("#", "-") if ascii else ("━", "━") if colour else ("━", " ")
    if not colour:
        return full * done + empty * (columns - done)
    return f"\x1b[32m{full * done}\x1b[2;39m{empty * (columns - done)}\x1b[0m"


class Live:
    """One line at the bottom of a terminal.

    The cursor stays at its beginning: if the window is narrowed and the terminal wraps the line, all of it is still
    after the cursor, and is erased before the next drawing.
    """

    def __init__(self, file: IO[str], width: Callable[[], int]) -> None:
        self._file, self._width = file, width
        self._colour = not os.environ.get("NO_COLOR")
        self._ascii = not _can_write("━", file)
        self._parts: Sequence[Field | Bar] = ()
        self._next = 0.0
        self._shown = False

    def draw(self, parts: Sequence[Field | Bar], *, now: bool = False) -> None:
        """Replace the line by `parts`; drawn at most ten times per second, or `now`."""
        self._parts = parts
        seconds = time.monotonic()
        if now or seconds >= self._next:
            self._next = seconds + REDRAW_SECONDS
            self._write()

    def _write(self) -> None:
        # filling the last column moves the cursor to the next row on some terminals
        text = fit(self._parts, max(1, self._width() - 1), colour=self._colour, ascii=self._ascii)
        self._file.write(f"{_ERASE if self._shown else _HIDE_CURSOR}{_NO_WRAP}{text}{_WRAP}\r")
        self._file.flush()
        self._shown = True

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Remove the line while something else is written above it."""
        shown = self._shown
        if shown:
            self._file.write(_ERASE)
            self._file.flush()
        try:
            yield
        finally:
            if shown:
                self._write()

    def close(self) -> None:
        """Remove the line and show the cursor again."""
        if self._shown:
            self._file.write(RESTORE)
            self._file.flush()
        self._parts, self._shown = (), False


def _can_write(text: str, file: IO[str]) -> bool:
    try:
        text.encode(getattr(file, "encoding", None) or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
