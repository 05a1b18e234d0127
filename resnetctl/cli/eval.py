"""`resnetctl eval`."""

import os
import tempfile
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from resnetctl.cli import complete, console, early, failures, options
from resnetctl.errors import UsageError

if TYPE_CHECKING:
    from resnetctl.cli.eval_report import Line
    from resnetctl.distributed.group import Group
    from resnetctl.engine.measure import Images
    from resnetctl.engine.models import Asked
    from resnetctl.recipe import Override
    from resnetctl.suites import Chosen


_MEASURING = (
    "data.val_resize",
    "data.val_size",
    "data.val_flip_average",
    "data.interpolation",
    "data.mean",
    "data.std",
    "data.timeout_seconds",
    "train.precision",
)


class Tta(StrEnum):
    """Test-time augmentation."""

    FLIP = "flip"


def eval_(
    which: Annotated[
        list[str] | None, options.run_argument("Runs by name or folder, and checkpoint files.", "[RUN]…")
    ] = None,
    best: options.Best = False,
    raw: options.Raw = False,
    weights: Annotated[
        list[str] | None,
        options.weights_option("Weights besides runs: imagenet1k-v1, imagenet1k-v2, hf:OWNER/NAME (timm's), or files."),
    ] = None,
    arch: options.WeightsArch = None,
    suite: Annotated[
        list[str] | None,
        typer.Option(
            "--suite",
            metavar="val|NAME=PATH",
            show_default="val",
            autocompletion=complete.suites,
            help="What to measure on: val, real=FILE, x=FILE, v2=FOLDER, a=FOLDER, r=FOLDER; any number of them.",
        ),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            "--against",
            metavar="RUN",
            show_default=False,
            autocompletion=complete.runs,
            help="Compare with another model on the same images by McNemar's test.",
        ),
    ] = None,
    size: Annotated[
        int | None,
        typer.Option("--size", min=32, show_default="the recipe's", help="Pixels of the crop; resized in proportion."),
    ] = None,
    tta: Annotated[
        Tta | None, typer.Option("--tta", show_default=False, help="Average over each image and its mirror image.")
    ] = None,
    settings: options.Set = None,
    details: Annotated[
        bool, typer.Option("--details", help="Also show calibration and the most frequent mistakes.")
    ] = False,
    per_class: Annotated[
        Path | None, typer.Option("--per-class", metavar="FILE.csv", help="Write the accuracy of each class.")
    ] = None,
    sheet: Annotated[
        Path | None, typer.Option("--sheet", metavar="FILE.png", help="Draw the worst mistakes of one model.")
    ] = None,
    worst: Annotated[int, typer.Option("--worst", min=1, max=200, help="Mistakes on the sheet.")] = 25,
    data: options.DataRoot = options.DEFAULT_DATA,
    runs: options.RunsRoot = options.DEFAULT_RUNS,
    device: options.Device = "auto",
    workers: options.Workers = None,
    gpus: options.Gpus = None,
    cpu_procs: options.CpuProcs = None,
    skip_quarantined: Annotated[
        bool,
        typer.Option("--skip-quarantined", help="Evaluate without the val images that verify quarantined."),
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Measure top-1 and top-5 with 95 % intervals, on the val images or on other suites.

    \b
    Examples:
      resnetctl eval
      resnetctl eval first second --details
      resnetctl eval --weights imagenet1k-v2 --suite real=real.json --suite v2=imagenetv2/
      resnetctl eval first --best --against imagenet1k-v1 --per-class classes.csv
    """
    from resnetctl.suites import ON_VAL, parse_suite

    names: list[str | None] = [*(which or []), *(weights or [])]
    chosen = [parse_suite(text) for text in suite or ["val"]]
    overrides = _overrides(tta, settings or [])
    _check_files(per_class, sheet, alone=len(names) < 2 and len(chosen) == 1)
    on_val = any(c.name in ON_VAL for c in chosen)
    early.check_models(runs, [*(names or [None]), *([against] if against else [])], data if on_val else None)

    from resnetctl.cli import eval_report
    from resnetctl.cli.ranks import start_ranks
    from resnetctl.distributed.group import joined
    from resnetctl.distributed.voice import one_voice
    from resnetctl.distributed.world import read_world
    from resnetctl.engine.device import rank_device
    from resnetctl.engine.measure import Images
    from resnetctl.engine.models import Asked

    if (code := start_ranks(gpus, cpu_procs, device)) is not None:
        raise typer.Exit(code)
    world = read_world(os.environ)
    with joined(world) as group, one_voice(group, failures.tell), tempfile.TemporaryDirectory() as scratch:
        if not group.is_first:
            console.configure(quiet=True)
        images = Images(data, Path(scratch), skip_quarantined=skip_quarantined)
        asked = Asked(
            runs=runs,
            device=rank_device("cpu" if cpu_procs else device, world.local_rank, world.local_size),
            classes=lambda: (images.val.info.classes, images.val.info.class_names),
            arch=arch,
            best=best,
            raw=raw,
            size=size,
            overrides=tuple(overrides),
            notice=console.notice,
            warn=console.warn if group.is_first else console.verbose,
        )
        lines = [line for name in names or [None] for line in _measure(name, asked, chosen, images, workers, group)]
        rivals = list(_measure(against, asked, chosen, images, workers, group)) if against else []
        if group.is_first:
            if per_class is not None:
                eval_report.write_per_class(per_class, lines + rivals)
            if sheet is not None:
                eval_report.draw_worst(sheet, lines, worst)
            eval_report.show(lines, rivals, details=details, as_json=as_json)


def _overrides(tta: Tta | None, settings: list[str]) -> "list[Override]":
    from resnetctl.recipe import Override

    overrides = options.overrides(settings)
    for override in overrides:
        if override.key not in _MEASURING:
            raise UsageError(
                f"--set {override.key} has no effect on a trained model",
                hint=f"settings with an effect: {', '.join(_MEASURING)}",
            )
    return [Override("data.val_flip_average", True, "--tta")] * (tta is Tta.FLIP) + overrides


def _check_files(per_class: Path | None, sheet: Path | None, *, alone: bool) -> None:
    """Raise UsageError if an output file cannot be written, before anything is measured."""
    if sheet is not None:
        from resnetctl.suites.sheet import check_sheet

        if not alone:
            raise UsageError(
                "--sheet shows the mistakes of a single model on a single suite", hint="give one RUN and one --suite"
            )
        check_sheet(sheet)
    if per_class is not None:
        from resnetctl.files import check_new_file

        check_new_file(per_class)


def _measure(
    name: str | None, asked: "Asked", chosen: "list[Chosen]", images: "Images", workers: int | None, group: "Group"
) -> "Iterator[Line]":
    """Each suite's outcome for one model."""
    from resnetctl.cli.eval_report import Line
    from resnetctl.engine.measure import measure
    from resnetctl.engine.models import find_model
    from resnetctl.hardware import default_workers, share_of, usable

    cores = share_of(usable(), group.all_gather(usable()))
    number = default_workers(asked.device.type, cores) if workers is None else workers
    model = find_model(name, asked)
    with console.progress() as progress:
        for outcome in measure(
            model, chosen, images, workers=number, group=group, progress=progress, notice=console.notice
        ):
            yield Line(model, outcome)
