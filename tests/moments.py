"""Kills or interrupts a process at a moment: before its n-th file operation of a kind on a kind of file."""

import os
import signal
import sys
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

# Python's audit events that act on a file, and which of their arguments is it
_AUDITED = {
    "open": ("open", 0),
    "os.chmod": ("chmod", 0),
    "os.mkdir": ("mkdir", 0),
    "os.remove": ("remove", 0),
    "os.rename": ("rename", 1),
    "os.rmdir": ("rmdir", 0),
    "os.scandir": ("scandir", 0),
    "os.symlink": ("symlink", 1),
    "tempfile.mkstemp": ("mkstemp", 0),
    "fcntl.lockf": ("lockf", 0),
}
_NOT_AUDITED = ("write", "fsync")  # of os

Moment = tuple[str, int]
"""`("rename *.json", 2)` is the moment before the second file is renamed to one of that name.

The pattern is of `OPERATION PATH`, as fnmatch has it.
"""


def kill_before(moment: Moment, number: int = signal.SIGKILL) -> None:
    """Have this process killed, as by `kill -9`, or sent another signal when that moment comes; for good."""
    pattern, left = moment

    def see(operation: str, file: Any) -> None:
        nonlocal left
        if fnmatchcase(f"{operation} {_path(file)}", pattern):
            left -= 1
            if not left:
                os.kill(os.getpid(), number)

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event in _AUDITED:
            operation, place = _AUDITED[event]
            see(operation, args[place])

    for name in _NOT_AUDITED:
        setattr(os, name, _seen(name, getattr(os, name), see))
    sys.addaudithook(hook)


def _seen(name: str, function: Callable[..., Any], see: Callable[[str, Any], None]) -> Callable[..., Any]:
    def call(fd: int, *args: Any) -> Any:
        see(name, fd)
        return function(fd, *args)

    return call


def _path(file: Any) -> str:
    if hasattr(file, "fileno"):
        file = file.fileno()
    if isinstance(file, int):
        try:
            return str(Path(f"/proc/self/fd/{file}").readlink())
        except OSError:  # it is closed, or this is not Linux
            return ""
    return os.fsdecode(file)
