"""`resnetctl checkpoint`: what a run has saved, and whether it is whole."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from resnetctl.cli import complete, console, options
from resnetctl.errors import EXIT_FAILURE, CheckpointError

if TYPE_CHECKING:
    from resnetctl.engine.inventory import Found

app = typer.Typer(help="List, show and verify saved checkpoints.", no_args_is_help=True)

Which = Annotated[
    str | None,
    typer.Argument(
        metavar="[RUN]",
        show_default="the latest run",
        autocompletion=complete.runs,
        help="A run's name or folder, or a checkpoint file.",
    ),
]


@app.command("list")
def list_(which: Which = None, runs: options.RunsRoot = options.DEFAULT_RUNS, as_json: options.Json = False) -> None:
    """List the checkpoints of a run, the newest first; the contents are not read (see verify)."""
    from resnetctl.engine.inventory import find

    _table(find(runs, which), as_json)


@app.command("verify")
def verify(which: Which = None, runs: options.RunsRoot = options.DEFAULT_RUNS, as_json: options.Json = False) -> None:
    """Read every byte of a run's checkpoints, and compare it with what was committed."""
    from resnetctl.engine.inventory import find

    found = find(runs, which, contents=True)
    _table(found, as_json)
    damaged = [f for f in found if f.problem]
    if damaged:
        console.show_error(
            CheckpointError(
                f"{len(damaged)} of {len(found)} checkpoints cannot be used",
                hint="train --resume and eval take the newest one that is whole",
            )
        )
        raise typer.Exit(EXIT_FAILURE)


@app.command("show")
def show(which: Which = None, runs: options.RunsRoot = options.DEFAULT_RUNS, as_json: options.Json = False) -> None:
    """Show what one checkpoint holds: the newest of a run, or a file."""
    from resnetctl.engine.inventory import find

    found = find(runs, which)
    newest = next((f for f in found if f.metadata is not None), None)
    if newest is None or newest.metadata is None:
        raise CheckpointError(f"{found[0].path.name}: {found[0].problem}", hint="resnetctl checkpoint list shows all")
        for fact in facts
    ]
    console.table(("step", "epoch", "top-1", "top-5", "recipe", "size", "state", "file"), rows)
