"""The commands: heading, summary and module of each.

A command's module is imported on demand, so that neither `--help` nor TAB pays for the others.
"""

from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from typing import Any, NamedTuple

import typer

from resnetctl.cli import help


class Listed(NamedTuple):
    """A command before it is imported."""

    heading: str
    summary: str
    """The first sentence of its help text."""
    target: str
    """`module:function`, or `module:app` of a group of commands."""


COMMANDS = {
    "prepare": Listed(
        "Data",
        "Make a data set ready to train: index what SOURCE holds, in place, without unpacking or copying it",
        "prepare:prepare",
    ),
    "verify": Listed(
        "Data",
        "Check the data set: counts, classes, the order of the labels, and that every image decodes",
        "verify:verify",
    ),
    "train": Listed(
        "Training", "Train a model; saves checkpoints as it goes, and resumes at any step with --resume", "train:train"
    ),
    "recipe": Listed("Training", "List the recipes, show every value of one, compare two", "recipe:app"),
    "checkpoint": Listed("Training", "List, show and verify saved checkpoints", "checkpoint:app"),
    "eval": Listed(
        "Results", "Measure top-1 and top-5 with 95 % intervals, on the val images or on other suites", "eval:eval_"
    ),
    "predict": Listed("Results", "Name the five most probable classes of images", "predict:predict"),
    "export": Listed(
        "Results", "Write a model for other programs, and check that it computes the same there", "export:export"
    ),
    "report": Listed(
        "Results",
        "Write one HTML page of one or several runs: curves, recipes, classes, confusion, calibration and pictures",
        "report:report",
    ),
    "runs": Listed("Results", "List, show, compare and delete runs", "runs:app"),
    "plan": Listed(
        "This machine",
        "Measure this machine and tell how long a run would take, what limits it, what fits, and what would help",
        "plan:plan",
    ),
    "bench": Listed(
        "This machine", "Measure the loader, the training step, and both together, in images per second", "bench:bench"
    ),
    "info": Listed(
        "This machine", "Show devices, memory, versions, decoders and disks, and the defaults that follow", "info:info"
    ),
    "completion": Listed(
        "This machine", "Print the script that makes TAB complete commands, options and values", "completion:completion"
    ),
}
"""In display order."""


class LazyCommands(Mapping[str, Any]):
    """Name to click command, each built on first use."""

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)

    def __contains__(self, name: object) -> bool:
        return name in COMMANDS

    def __getitem__(self, name: str) -> Any:
        return _build(name, COMMANDS[name].target)


@cache
def _build(name: str, target: str) -> Any:
    module, _, attribute = target.partition(":")
    found = getattr(import_module(f"{__package__}.{module}"), attribute)
    around = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    command: Any
    if isinstance(found, typer.Typer):
        around.add_typer(found, name=name)
        command = typer.main.get_group(around).commands[name]
    else:
        around.command(name)(found)
        command = typer.main.get_command(around)
    help.finish(command)
    return command


class Program(help.Group):
    """The group of all commands."""

    is_lazy = True

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.commands = LazyCommands()  # type: ignore[assignment]

    def rows(self) -> Iterator[tuple[str, str, str]]:
        """From the table, importing nothing."""
        for name, listed in COMMANDS.items():
            yield listed.heading, name, listed.summary
