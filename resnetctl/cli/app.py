"""The program: its commands, their common options, and the top-level `except`."""

import os
import sys
from typing import Annotated, Any, NoReturn

import typer

from resnetctl import __version__
from resnetctl.cli import completion, console, failures, help
from resnetctl.cli.commands import Program
from resnetctl.cli.typer_private import ClickException, NoArgsIsHelpError
from resnetctl.cli.usage import usage_error
from resnetctl.errors import EXIT_USAGE, ResnetctlError

PROGRAM = "resnetctl"

app = typer.Typer(
    name=PROGRAM,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    cls=Program,
    suggest_commands=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(ctx: typer.Context, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        sys.stdout.write(f"{PROGRAM} {__version__}\n")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Train a ResNet on ImageNet, or on your own image folders: from the archive to an evaluated model.

    \b
    To begin:
      resnetctl prepare
      resnetctl train --epochs 10
      resnetctl eval
    """


def build() -> Any:
    """The whole command tree for click."""
    command = typer.main.get_command(app)
    help.finish(command)
    return command


def run(args: list[str]) -> int:
    """Run one command line and return the exit code; bugs of ours propagate as exceptions."""
    console.configure(json="--json" in args)
    try:
        return _invoke(args)
    except (ResnetctlError, KeyboardInterrupt, OSError) as error:
        if failures.is_bug(error):
            raise
        return failures.tell(error)


def _invoke(args: list[str]) -> int:
    """The exit code of a command line. Raises ResnetctlError for an invalid one."""
    try:
        command = build()
        if completion.VARIABLE in os.environ:
            return completion.respond(command, os.environ[completion.VARIABLE])
        with command.make_context(PROGRAM, args) as ctx:
            command.invoke(ctx)
        sys.stdout.flush()
        return 0
    except typer.Exit as end:
        sys.stdout.flush()
        return end.exit_code
    except NoArgsIsHelpError as error:
        typer.echo(error.message, err=True)
        return EXIT_USAGE
    except ClickException as error:
        raise usage_error(error, PROGRAM) from None


def _open_closed_streams() -> None:
    """Reopen closed stdin, stdout and stderr (`>&-`), or the next opened file would take their place.

    Writing to a closed stdout remains an error, EBADF; a closed stderr discards everything.
    """
    modes = {0: os.O_RDONLY, 1: os.O_RDONLY, 2: os.O_WRONLY}
    for number, mode in modes.items():
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, mode)  # takes the lowest free number
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w", closefd=False)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", closefd=False)


def main() -> NoReturn:
    """The entry point of the console script and of `python -m resnetctl`."""
    _open_closed_streams()
    sys.exit(run(sys.argv[1:]))
