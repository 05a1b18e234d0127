"""The options that several commands share, so that they are called and explained the same everywhere.

The completion of a run's name looks at the parameter called `runs`, so keep that name.
"""

import os
from pathlib import Path
from typing import Annotated

import typer

from resnetctl.cli import complete

DEFAULT_DATA = Path("data")
DEFAULT_RUNS = Path("runs")


def with_home(path: Path | None) -> Path | None:
    """`path` with a `~` at its start resolved: a shell does not do that in `--data=~/x`, nor in quotes."""
    return None if path is None else Path(os.path.expanduser(path))  # noqa: PTH111 - Path's raises for an unknown user


DataRoot = Annotated[
    Path,
    typer.Option(
        "--data",
        envvar="RESNETCTL_DATA",
        file_okay=False,
        callback=with_home,
        help="Data root: the folder of the data set.",
    ),
]
RunsRoot = Annotated[
    Path,
    typer.Option(
        "--runs",
        envvar="RESNETCTL_RUNS",
        file_okay=False,
        callback=with_home,
        help="Folder that holds the runs.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
Device = Annotated[
    str,
    typer.Option(
        "--device",
        autocompletion=complete.devices,
        help="auto takes what torch offers: CUDA or ROCm, XPU, MPS, CPU; or name one, such as cpu or cuda:1.",
    ),
]
Recipe = Annotated[
    str | None,
    typer.Option(
        "--recipe",
        autocompletion=complete.recipes,
        show_default="the one that suits the data set",
        help="Recipe: resnetctl recipe list shows all.",
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        autocompletion=complete.setting_keys,
        show_default=False,
        help="Set a value of the recipe; may be given several times.",
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        min=0,
        show_default="what suits this machine",
        help="Processes that read and decode images; 0: none, all in the main one.",
    ),
]
Best = Annotated[
    bool, typer.Option("--best", help="Of a run, take the checkpoint with the highest top-1 instead of the newest.")
]
WeightsArch = Annotated[
    str | None,
    typer.Option(
        "--arch",
        autocompletion=complete.architectures,
        show_default="resnet50",
        help="The network of --weights; a run's checkpoint says its own.",
    ),
]
