"""Errors for users, and making foreign names safe to print.

Every error that a user can cause or fix is a `ResnetctlError`: it says what is wrong and why, and its `hint` says how
to fix it, with the command to run if there is one. The command line prints both and exits with `exit_code`; any other
exception is a bug of ours and keeps its traceback.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence

EXIT_FAILURE = 1
EXIT_USAGE = 2
EXIT_DATA = 3
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143


def exit_code_of(number: int) -> int:
    """The exit code after a signal: 130 for Ctrl-C, 143 for SIGTERM and SIGUSR1."""
    return EXIT_INTERRUPTED if number == signal.SIGINT else EXIT_TERMINATED


class ResnetctlError(ValueError):
    """A failure that the user can understand and fix; exit code 1."""

    exit_code = EXIT_FAILURE

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.message, self.hint)  # so that the hint survives pickling between processes


def _rebuild(kind: type[ResnetctlError], message: str, hint: str | None) -> ResnetctlError:
    return kind(message, hint=hint)


class UsageError(ResnetctlError):
    """An invalid command line, recipe or setting; exit code 2."""

    exit_code = EXIT_USAGE


class DataError(ResnetctlError):
    """Data that are not ready, incomplete or bad; exit code 3."""

    exit_code = EXIT_DATA


class CheckpointError(ResnetctlError):
    """A checkpoint or run folder that is missing, damaged or does not fit; exit code 1."""


class Interrupted(ResnetctlError):
    """Ctrl-C, when nothing has to be saved first; exit code 130."""

    exit_code = EXIT_INTERRUPTED


def printable(name: object) -> str:
    """`name` on one line, with control characters, bidirectional overrides and broken UTF-8 shown as escapes.

    File and class names come from outside: the terminal would obey a raw escape sequence in one.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in str(name))


def some(names: Sequence[object], shown: int = 5) -> str:
    """The first of many `names`, printable, and how many more there are: `a, b and 7 more`."""
    text = ", ".join(map(printable, names[:shown]))
    return text if len(names) <= shown else f"{text} and {len(names) - shown} more"


def counted(number: int, noun: str) -> str:
    """`1 image`, `2,000 images`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def needs_package(what: str, package: str, extra: str) -> ResnetctlError:
    """The error where `what` lacks an optional package, which comes with an extra of ours."""
    return ResnetctlError(f"{what} needs the package {package}", hint=f'pip install "resnetctl[{extra}]"')


def cannot_read(path: object, error: OSError) -> DataError:
    """The error for a file or folder of the data that cannot be read."""
    hint = None
    if isinstance(error, PermissionError):
        hint = "change its permissions"
    elif isinstance(error, FileNotFoundError):
        hint = "restore it, or remove links to it"
    return DataError(f"cannot read {printable(path)}: {error.strerror}", hint=hint)


def did_you_mean(word: str, known: list[str] | tuple[str, ...]) -> str | None:
    """The closest of `known` to a misspelt `word`, or None if nothing is close."""
    import difflib

    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return close[0] if close else None
