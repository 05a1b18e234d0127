"""`resnetctl report`."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from resnetctl.cli import complete, console, options
from resnetctl.errors import ResnetctlError, UsageError, counted, printable

if TYPE_CHECKING:
    import torch

    from resnetctl.engine.inputs import Seen
    from resnetctl.recipe import Recipe
    from resnetctl.report.contents import Gallery, RunPart
    from resnetctl.runs.summary import Summary

_SEEN = 14  # images per step


def report(
    which: Annotated[
        list[str] | None, options.run_argument("Runs by name or folder, at most 8, plotted together.", "[RUN]…")
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE.html", callback=options.with_home, help="The page.")
    ] = Path("report.html"),
    png: Annotated[
        Path | None,
        typer.Option(
            "--png",
            metavar="FOLDER",
            callback=options.with_home,
            show_default=False,
            help="Also write the plots and pictures as PNG files.",
        ),
    ] = None,
    best: options.Best = False,
    curves_only: Annotated[
        bool, typer.Option("--curves-only", help="Evaluate nothing: use only what the runs have logged.")
    ] = False,
    samples: Annotated[
        bool,
        typer.Option("--samples", help="Show what the network sees: images of the first batches, augmented."),
    ] = False,
    recipe: Annotated[
        str | None,
        typer.Option(
            "--recipe",
            autocompletion=complete.recipes,
            show_default=False,
            help="With --samples, without a run: what the network would see with this recipe.",
        ),
    ] = None,
    settings: options.Set = None,
    data: options.DataRoot = options.DEFAULT_DATA,
    runs: options.RunsRoot = options.DEFAULT_RUNS,
    device: options.Device = "auto",
    workers: options.Workers = None,
    as_json: options.Json = False,
) -> None:
    """Write one HTML page of one or several runs: curves, recipes, classes, confusion, calibration and pictures.

    The page needs no network and no other file. Models are evaluated on the val images if the data set is available.

    \b
    Examples:
      resnetctl report
      resnetctl report first second --out both.html --png plots
      resnetctl report --samples --recipe torchvision-v2 --set data.train_size=128
    """
    from resnetctl.data.dataset import load_dataset
    from resnetctl.report import output
    from resnetctl.report.contents import Contents
    from resnetctl.report.page import page
    from resnetctl.report.pictures import pictures
    from resnetctl.report.plots import check_matplotlib

    found = _runs(which, runs, samples=samples, recipe=recipe, settings=settings)
    if found:
        check_matplotlib()
    output.check_page(out)
    if png is not None:
        output.check_folder(png)
    if samples:
        load_dataset(data)
    parts = _evaluated(found, data, runs, device, workers, best=best, curves_only=curves_only)
    chosen = _recipes(found, recipe, settings) if samples else []
    seen = [gallery for title, r, m in chosen for gallery in _seen(title, r, m, data, device)]
    contents = Contents(runs=tuple(parts), seen=tuple(seen))
    document = page(contents)
    output.write_page(out, document)
    drawn = pictures(contents) if png is not None else {}
    if png is not None:
        output.write_pictures(png, drawn)
    if as_json:
        facts = [
            {"name": p.summary.name, "run": str(p.summary.run.folder), "evaluated": p.outcome is not None}
            for p in parts
        ]
        files = [str(png / name) for name in drawn] if png else []
        console.print_document(
            "report", {"page": str(out), "bytes": len(document.encode()), "pictures": files, "runs": facts}
        )
        return
    console.out().print(printable(out))
    if png is not None:
        console.notice(f"{counted(len(drawn), 'picture')} in {printable(png)}")


def _runs(
    which: list[str] | None, root: Path, *, samples: bool, recipe: str | None, settings: list[str] | None
) -> "list[Summary]":
    """The requested runs; none with a recipe. Raises ResnetctlError for invalid combinations."""
    from resnetctl.report.plots import MOST_RUNS
    from resnetctl.runs.find import find_run
    from resnetctl.runs.summary import summarise

    if recipe is not None:
        if not samples:
            raise UsageError("--recipe needs --samples", hint="add --samples")
        if which:
            raise UsageError("--recipe cannot be combined with runs", hint="leave out --recipe, or the runs")
        return []
    if settings:
        raise UsageError("--set cannot change a run's own recipe", hint="add --samples --recipe NAME")
    names: list[str | None] = [*which] if which else [None]
    chosen = dict.fromkeys(find_run(root, name) for name in names)
    if len(chosen) > MOST_RUNS:
        raise UsageError(f"{len(chosen)} runs are too many for one report: at most {MOST_RUNS}", hint="give fewer")
    return [summarise(run) for run in chosen]


def _evaluated(
    found: "list[Summary]",
    data: Path,
    runs: Path,
    device: str,
    workers: int | None,
    *,
    best: bool,
    curves_only: bool,
) -> "list[RunPart]":
    """Each run with its model's result on the val images, or why there is none."""
    from resnetctl.report.contents import RunPart

    if curves_only or not found:
        why = "--curves-only was given" if curves_only else None
        return [RunPart(summary=s, outcome=None, why_not=why) for s in found]
    from resnetctl.data.dataset import load_dataset

    try:
        load_dataset(data).val()  # before torch is imported
    except ResnetctlError as error:
        console.warn(f"{error.message}: the report has only the curves")
        return [RunPart(summary=s, outcome=None, why_not=error.message) for s in found]
    from resnetctl.engine.device import choose_device
    from resnetctl.engine.measure import Images, measure
    from resnetctl.engine.models import Asked, find_model
    from resnetctl.hardware import default_workers, usable_cores
    from resnetctl.suites import Chosen

    chosen_device = choose_device(device)
    number = default_workers(chosen_device.type, usable_cores()) if workers is None else workers
    parts = []
    with tempfile.TemporaryDirectory() as scratch, console.progress() as progress:
        images = Images(data, Path(scratch), skip_quarantined=True)
        asked = Asked(
            runs=runs,
            device=chosen_device,
            classes=lambda: (images.val.info.classes, images.val.info.class_names),
            best=best,
            notice=console.notice,
            warn=console.warn,
        )
        for s in found:
            try:
                model = find_model(str(s.run.folder), asked)
                (outcome,) = measure(
                    model, [Chosen("val", None)], images, workers=number, progress=progress, notice=console.notice
                )
                parts.append(RunPart(summary=s, outcome=outcome))
            except ResnetctlError as error:
                console.warn(f"{printable(s.name)} is not evaluated: {error.message}")
                parts.append(RunPart(summary=s, outcome=None, why_not=error.message))
    return parts


def _recipes(
    found: "list[Summary]", recipe: str | None, settings: list[str] | None
) -> "list[tuple[str, Recipe, int | None]]":
    """The sources of the images shown: name, recipe, and micro-batch if known."""
    from resnetctl.recipe import load_recipe

    if recipe is not None:
        return [("", load_recipe(recipe, overrides=options.overrides(settings)), None)]
    shown: list[tuple[str, Recipe, int | None]] = []
    for s in found:
        if s.recipe is None:
            console.warn(f"{printable(s.name)} has no readable recipe: its samples are not shown")
            continue
        size = s.metadata.environment.get("micro-batch") if s.metadata else None
        title = f"{s.name}: " if len(found) > 1 else ""
        shown.append((title, s.recipe, size if isinstance(size, int) and size > 0 else None))
    return shown


def _seen(title: str, recipe: "Recipe", micro_batch: int | None, data: Path, device: str) -> "list[Gallery]":
    from resnetctl.data.dataset import load_dataset
    from resnetctl.engine.device import choose_device
    from resnetctl.engine.inputs import seen, telling_steps
    from resnetctl.engine.run_choice import check_recipe

    index = load_dataset(data).train()
    chosen: torch.device = choose_device(device)
    check_recipe(recipe, len(index), chosen)
    steps = telling_steps(recipe, len(index))
    names = index.info.class_names
    return [_gallery(title, s, names) for s in seen(recipe, index, chosen, steps, _SEEN, micro_batch)]


def _gallery(title: str, seen: "Seen", names: tuple[str, ...]) -> "Gallery":
    from resnetctl.report.contents import Gallery
    from resnetctl.suites.sheet import Line, Tile

    tiles = []
    for name, image, target in zip(seen.names, seen.images, seen.targets, strict=False):
        shares = sorted(((float(target[k]), int(k)) for k in target.nonzero()[0]), reverse=True)
        lines = tuple(Line(f"{100 * share:.0f} %  {names[k]}", share) for share, k in shares[:2])
        tiles.append(Tile(image, name.rpartition("/")[2], lines))
    return Gallery(
        title=f"{title}step {seen.step + 1:,}, in epoch {int(seen.epoch) + 1:,}, {seen.size} px",
        text=f"{seen.mixed[0].upper()}{seen.mixed[1:]}." if seen.mixed else "Not mixed.",
        tiles=tuple(tiles),
    )
