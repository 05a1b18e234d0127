"""The layout of `--help`: click's plain one, with colours on a terminal and commands in groups.

typer's Rich help imports Rich's Markdown and traceback modules, which doubles the time of `--help`.
"""

import os
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import typer

from resnetctl.cli import console
from resnetctl.cli.options import OUTPUT
from resnetctl.cli.typer_private import HelpFormatter, TyperGroup, TyperOption

_METAVARS = {
    "int": "N",
    "int range": "N",
    "float": "X",
    "float range": "X",
    "str": "NAME",
    "directory": "FOLDER",
    "file": "FILE",
    "path": "PATH",
}


def _style(text: str, **style: Any) -> str:
    """`text` in colour; click removes it if the output is not a terminal."""
    return text if os.environ.get("NO_COLOR") else typer.style(text, **style)


class _Formatter(HelpFormatter):
    def write_heading(self, heading: str) -> None:
        super().write_heading(_style(heading, bold=True))

    def write_dl(self, rows: Sequence[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:
        super().write_dl([(_style(first, fg="cyan"), second) for first, second in rows], col_max, col_spacing)


class _Context(typer.Context):
    formatter_class = _Formatter


class Group(TyperGroup):
    """A group that lists its commands under their headings, each with its summary."""

    is_lazy = False
    """Whether its commands are built, and finished, on demand."""

    def format_commands(self, ctx: Any, formatter: HelpFormatter) -> None:
        """Write one section for each heading, in the order of the commands."""
        panels: dict[str, list[tuple[str, str]]] = {}
        for heading, name, summary in self.rows():
            panels.setdefault(heading, []).append((name, summary))
        for panel, rows in panels.items():
            with formatter.section(panel):
                formatter.write_dl(rows)

    def rows(self) -> Iterator[tuple[str, str, str]]:
        """Heading, name and summary of each command."""
        for name, command in self.commands.items():
            yield "Commands", name, first_sentence(command.help or "")


def _format_options(command: Any, ctx: Any, formatter: HelpFormatter) -> None:
    """Write a section for each heading of options, those without one first."""
    panels: dict[str, list[tuple[str, str]]] = {}
    arguments: list[tuple[str, str]] = []
    for param in command.get_params(ctx):
        record = param.get_help_record(ctx)
        if record is None:
            continue
        if param.param_type_name == "argument":
            arguments.append(record)
            continue
        panel = getattr(param, "rich_help_panel", None)
        if panel is None and "--help" in param.opts:
            panel = OUTPUT
        panels.setdefault(panel or "Options", []).append(record)
    order = sorted(panels, key=lambda name: (name != "Options", name == OUTPUT))
    for title, rows in [("Arguments", arguments), *((name, panels[name]) for name in order)]:
        if rows:
            with formatter.section(title):
                formatter.write_dl(rows)
    if isinstance(command, TyperGroup):
        command.format_commands(ctx, formatter)


def first_sentence(text: str) -> str:
    """The first sentence of the first paragraph, on one line, without its full stop."""
    return " ".join(text.partition("\n\n")[0].split()).partition(". ")[0].rstrip(".")


def finish(command: Any) -> None:
    """Give `command` and all its subcommands this layout, short metavars, and the common options.

    So `-q` and `-v` can be given before or after a command's name, at any depth.
    """
    command.context_class = _Context
    command.format_options = partial(_format_options, command)
    for param in command.params:
        if isinstance(param, TyperOption) and param.metavar is None and not param.is_flag:
            param.metavar = _METAVARS.get(param.type.name)
    command.params += [
        _switch("q", "quiet", "Show only warnings and errors: no notices, no progress."),
        _switch("v", "verbose", "More details on stderr."),
    ]
    if isinstance(command, Group) and not command.is_lazy:
        for sub in command.commands.values():
            finish(sub)


def _switch(letter: str, name: str, help_text: str) -> TyperOption:
    def turn_on(ctx: typer.Context, param: Any, value: bool) -> None:
        if value and not ctx.resilient_parsing:
            console.configure(**{name: True})

    return TyperOption(
        param_decls=[f"-{letter}", f"--{name}"],
        is_flag=True,
        expose_value=False,
        callback=turn_on,
        help=help_text,
        rich_help_panel=OUTPUT,
    )
