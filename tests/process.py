"""Functions of test modules, each called in an interpreter of its own (`python -m tests.process MODULE FUNCTION …`)."""

import importlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = str(Path(__file__).parents[1])


def command(function: Callable[..., None], *args: object) -> list[str]:
    """The command line that calls a module's `function` with `args`, as strings."""
    return [sys.executable, "-m", "tests.process", function.__module__, function.__name__, *map(str, args)]


def call(function: Callable[..., None], *args: object, timeout: float = 120) -> "subprocess.CompletedProcess[str]":
    """What calling it printed, and its exit code."""
    return subprocess.run(
        command(function, *args), capture_output=True, text=True, timeout=timeout, env=environment(), check=False
    )


def start(function: Callable[..., None], *args: object) -> "subprocess.Popen[str]":
    """A process that calls it, with pipes for all that it reads and prints."""
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command(function, *args), stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=environment()
    )


def environment() -> dict[str, str]:
    """This process's, in which the test modules are found from any folder."""
    paths = [ROOT, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


if __name__ == "__main__":
    getattr(importlib.import_module(sys.argv[1]), sys.argv[2])(*sys.argv[3:])
