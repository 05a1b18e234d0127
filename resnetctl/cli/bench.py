"""`resnetctl bench`."""

from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from resnetctl.cli import console, early, options
from resnetctl.progress import Progress

if TYPE_CHECKING:
    from resnetctl.data.dataset import Dataset
    from resnetctl.data.index import Index
    from resnetctl.engine.bench import Rate
    from resnetctl.recipe import Override, Recipe


class What(StrEnum):
    """The part to measure."""

    LOADER = "loader"
    MODEL = "model"
    TRAIN = "train"


Seconds = Annotated[float, typer.Option("--seconds", min=0.1, help="Length of each measurement, after its warm-up.")]


def bench(
    what: Annotated[
        What | None,
        typer.Argument(
            metavar="[loader|model|train]", show_default="all three", help="The part to measure; train: both together."
        ),
    ] = None,
    recipe: options.Recipe = None,
    settings: options.Set = None,
    batch_size: options.BatchSize = None,
    arch: options.Arch = None,
    seconds: Seconds = 10.0,
    data: options.DataRoot = options.DEFAULT_DATA,
    device: options.Device = "auto",
    workers: options.Workers = None,
    as_json: options.Json = False,
) -> None:
    """Measure the loader, the training step, and both together, in images per second.

    \b
    Examples:
      resnetctl bench
      resnetctl bench loader --workers 4
      resnetctl bench model --arch resnet18 --json
    """
    overrides = options.overrides(settings, batch_size=batch_size, arch=arch, workers=workers)
    dataset, chosen = chosen_recipe(data, recipe, overrides)
    from resnetctl.engine.device import choose_device

    torch_device = choose_device(device)
    with console.progress() as progress:
        found = _measure(what, chosen, dataset.train(), torch_device, seconds, progress)
    if as_json:
        measured = {part: asdict(result) for part, result in found.items()}
        facts = {"data": str(dataset.root), "recipe": chosen.name, "device": str(torch_device)}
        console.print_document("bench", {**facts, "measured": measured})
        return
    rows = [(name, *_row(name, result, found)) for name, result in found.items()]
    console.table(("", "img/s", "spread", "of the bound", ""), rows, title=f"{chosen.name} on {torch_device}")


def _measure(
    what: What | None, recipe: "Recipe", index: "Index", device: Any, seconds: float, progress: Progress
) -> dict[str, Any]:
    from resnetctl.engine import bench as engine
    from resnetctl.engine.micro_batch import choose_micro_batch
    from resnetctl.hardware import default_workers, usable_cores

    workers = recipe.data.workers if recipe.data.workers >= 0 else default_workers(device.type, usable_cores())
    found: dict[str, Any] = {}
    if what in (None, What.LOADER):
        batch = choose_micro_batch(recipe, device, 1)
        found["loader"] = engine.measure_loader(
            recipe, index, batch=batch, workers=workers, seconds=seconds, progress=progress
        )
    if what in (None, What.MODEL):
        found["model"] = engine.measure_model(
            recipe, len(index.info.classes), device=device, seconds=seconds, progress=progress
        )
    if what in (None, What.TRAIN):
        found["train"] = engine.measure_train(
            recipe, index, device=device, workers=workers, seconds=seconds, progress=progress
        )
    return found


def chosen_recipe(data: Path, recipe: str | None, overrides: "list[Override]") -> "tuple[Dataset, Recipe]":
    """The data set, and the recipe that `train` would use for it with the same options, with a notice."""
    from resnetctl.data.dataset import load_dataset

    dataset = load_dataset(data)
    chosen, why = early.suitable(dataset, overrides, recipe)
    if why is not None:
        console.notice(f"recipe {chosen.name}: {why}")
    return dataset, chosen


def spread(rate: "Rate") -> str:
    """The slowest and fastest window."""
    return f"{rate.low:,.0f} to {rate.high:,.0f}"


def _row(name: str, result: Any, found: dict[str, Any]) -> tuple[str, str, str, str]:
    rate = result.rate
    if name == "loader":
        bound = result.bound
        workers = "1 worker" if result.workers == 1 else f"{result.workers} workers"
        note = f"{workers}, {result.size} px, {result.decoder}; bound: decoding alone"
    elif name == "model":
        bound = result.bound
        compiled = ", compiled" if result.compiled else ""
        memory = f", {console.size(result.memory_bytes)}" if result.memory_bytes else ""
        note = f"batch {result.micro_batch}, {result.size} px, {result.precision}{compiled}{memory}"
        note += "; bound: matrix products"
    else:
        alone = [found[part].rate.median for part in ("loader", "model") if part in found]
        bound = min(alone) if len(alone) == 2 else None
        note = f"waits for data {100 * result.waiting:.1f} % of the time"
        note += "; bound: the slower of the two" if bound else ""
    share = f"{100 * rate.median / bound:.0f} %" if bound else ""
    return f"{rate.median:,.1f}", spread(rate), share, note
