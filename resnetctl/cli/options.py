"""Options shared by several commands, with the same names and explanations everywhere.

The completion of runs uses the parameter called `runs`, so keep that name.
"""

import os
import shlex
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from resnetctl.cli import complete
from resnetctl.errors import printable

if TYPE_CHECKING:
    from resnetctl.recipe import Override

PLACES, RECIPE, MACHINE, OUTPUT = "Data and runs", "Recipe", "Machine", "Output"
"""The headings under which `--help` lists options; those without one come first, under Options."""

place_option, recipe_option, machine_option = (
    partial(typer.Option, rich_help_panel=panel) for panel in (PLACES, RECIPE, MACHINE)
)

DEFAULT_DATA = Path("data")
DEFAULT_RUNS = Path("runs")


def with_home(path: Path | None) -> Path | None:
    """`path` with a leading `~` expanded, which a shell does not do in `--data=~/x` or in quotes."""
    return None if path is None else Path(os.path.expanduser(path))  # noqa: PTH111 - Path's raises for an unknown user


def run_argument(what: str, metavar: str = "[RUN]") -> Any:
    """An argument that names runs, or files of them; without it the latest run is meant."""
    return typer.Argument(metavar=metavar, show_default="the latest run", autocompletion=complete.runs, help=what)


def weights_option(what: str, panel: str | None = None) -> Any:
    """`--weights`: published ones, or a file."""
    return typer.Option(
        "--weights",
        metavar="NAME|FILE",
        autocompletion=complete.weights,
        show_default=False,
        rich_help_panel=panel,
        help=what,
    )


def _known_device(name: str) -> str:
    """`name`, if it is a possible device name; whether it exists is left to torch, whose import takes seconds."""
    from resnetctl.engine.device_name import split_name

    split_name(name)
    return name


DataRoot = Annotated[
    Path,
    place_option(
        "--data",
        envvar="RESNETCTL_DATA",
        file_okay=False,
        callback=with_home,
        help="Data root: the folder of the data set.",
    ),
]
RunsRoot = Annotated[
    Path,
    place_option(
        "--runs", envvar="RESNETCTL_RUNS", file_okay=False, callback=with_home, help="Folder that holds the runs."
    ),
]
Json = Annotated[bool, typer.Option("--json", rich_help_panel=OUTPUT, help="Print one JSON document on stdout.")]
Device = Annotated[
    str,
    machine_option(
        "--device",
        autocompletion=complete.devices,
        callback=_known_device,
        help="auto: the first that torch finds of CUDA or ROCm, XPU, MPS, CPU; or one by name, such as cpu or cuda:1.",
    ),
]
Recipe = Annotated[
    str | None,
    recipe_option(
        "--recipe",
        autocompletion=complete.recipes,
        show_default="the one that suits the data set",
        help="Recipe: resnetctl recipe list shows all.",
    ),
]
Set = Annotated[
    list[str] | None,
    recipe_option(
        "--set",
        metavar="KEY=VALUE",
        autocompletion=complete.settings,
        show_default=False,
        help="Set a value of the recipe; may be given several times.",
    ),
]
Epochs = Annotated[int | None, recipe_option("--epochs", min=1, help="Passes over the train images.")]
BatchSize = Annotated[
    int | None, recipe_option("--batch-size", min=1, help="Global batch: images of one optimizer step.")
]
Arch = Annotated[
    str | None,
    recipe_option(
        "--arch",
        autocompletion=complete.architectures,
        help="Model: resnet18, resnet34, resnet50, resnet101 or resnet152.",
    ),
]
MaxSteps = Annotated[
    int | None, recipe_option("--max-steps", min=1, help="Stop after N steps, with the schedule unchanged.")
]
Keep = Annotated[
    int | None, recipe_option("--keep", min=2, help="Number of newest checkpoints to keep, besides the best.")
]
Workers = Annotated[
    int | None,
    machine_option(
        "--workers",
        min=0,
        show_default="what suits this machine",
        help="Processes that read and decode images; 0: only the main process.",
    ),
]
Best = Annotated[
    bool, typer.Option("--best", help="Use a run's checkpoint with the highest top-1 instead of its newest.")
]
Raw = Annotated[bool, typer.Option("--raw", help="Use a run's raw weights instead of their moving average.")]
Weights = Annotated[
    str | None,
    weights_option("Instead of a run: imagenet1k-v1, imagenet1k-v2, hf:OWNER/NAME (timm's), or a file of weights."),
]
WeightsArch = Annotated[
    str | None,
    typer.Option(
        "--arch",
        autocompletion=complete.architectures,
        show_default="resnet50",
        help="The network of --weights; a run's checkpoint specifies its own.",
    ),
]
Gpus = Annotated[
    str | None,
    machine_option("--gpus", metavar="N|all", show_default="one", help="Number of GPUs of this machine to use."),
]
CpuProcs = Annotated[
    int | None,
    machine_option(
        "--cpu-procs", min=1, metavar="N", show_default="one", help="Number of processes that train on the CPU."
    ),
]

_KEYS = {
    "epochs": "train.epochs",
    "batch_size": "train.global_batch",
    "lr": "optimizer.lr",
    "seed": "train.seed",
    "arch": "model.arch",
    "weights": "model.weights",
    "max_steps": "train.max_steps",
    "workers": "data.workers",
    "keep": "checkpoint.keep",
}


def overrides(settings: list[str] | None, **flags: Any) -> "list[Override]":
    """The recipe values from `flags` (see `_KEYS`; None: not given) and `--set`, later ones overriding earlier ones.

    Raises UsageError for an unknown key or a value of the wrong type.
    """
    from resnetctl.recipe import Override, parse_set

    given = [
        Override(_KEYS[name], value, f"--{name.replace('_', '-')}")
        for name, value in flags.items()
        if value is not None
    ]
    return given + [parse_set(text) for text in settings or []]


def again(
    *, data: Path, runs: Path | None = None, device: str = "auto", gpus: str | None = None, cpu_procs: int | None = None
) -> str:
    """The given ones of these options, for the next command, such as ` --data '/my disk'`."""
    given = {
        "--data": str(data) if data != Path(os.environ.get("RESNETCTL_DATA") or DEFAULT_DATA) else None,
        "--runs": str(runs) if runs not in (None, Path(os.environ.get("RESNETCTL_RUNS") or DEFAULT_RUNS)) else None,
        "--device": device if device != "auto" else None,
        "--gpus": gpus,
        "--cpu-procs": cpu_procs,
    }
    return "".join(f" {flag} {shlex.quote(printable(value))}" for flag, value in given.items() if value is not None)
