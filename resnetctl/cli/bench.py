"""`resnetctl bench`."""

from dataclasses import asdict
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from resnetctl.cli import console, options

if TYPE_CHECKING:
    from resnetctl.engine.bench import Rate
    from resnetctl.recipe import Recipe


class What(StrEnum):
    """The part that is measured."""

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
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", min=1, help="Images of one batch.", show_default="the recipe's")
    ] = None,
    seconds: Seconds = 10.0,
    data: options.DataRoot = options.DEFAULT_DATA,
    device: options.Device = "auto",
    workers: options.Workers = None,
    as_json: options.Json = False,
) -> None:
    """Measure the loader, the training step, and both together, in images per second."""
    from resnetctl.data.dataset import load_dataset
    from resnetctl.engine import bench as engine
    from resnetctl.engine.device import choose_device
    from resnetctl.engine.micro_batch import choose_micro_batch
    from resnetctl.hardware import default_workers, usable_cores

    dataset = load_dataset(data)
    index = dataset.train()
    chosen = choose_device(device)
    number = workers if workers is not None else default_workers(chosen.type, usable_cores())
    plan = suitable(recipe, settings or [], batch_size, dataset)
    found: dict[str, Any] = {}
    with console.progress() as progress:
        if what in (None, What.LOADER):
            batch = choose_micro_batch(plan, chosen, 1)
            found["loader"] = engine.measure_loader(
                plan, index, batch=batch, workers=number, seconds=seconds, progress=progress
            )
        if what in (None, What.MODEL):
            found["model"] = engine.measure_model(
                plan, len(index.info.classes), device=chosen, seconds=seconds, progress=progress
            )
        if what in (None, What.TRAIN):
            found["train"] = engine.measure_train(
                plan, index, device=chosen, workers=number, seconds=seconds, progress=progress
            )
    if as_json:
        measured = {part: asdict(result) for part, result in found.items()}
        console.print_document(
            "bench", {"data": str(dataset.root), "recipe": plan.name, "device": str(chosen), **measured}
        )
        return
    rows = [(name, *_row(name, result, found)) for name, result in found.items()]
    console.table(("", "img/s", "spread", "of the bound", ""), rows, title=f"{plan.name} on {chosen}")


def suitable(recipe: str | None, settings: list[str], batch_size: int | None, dataset: Any) -> "Recipe":
    """The recipe that `train` would take with the same options."""
    from resnetctl.engine.run_choice import suitable_recipe
    from resnetctl.recipe import Override, load_recipe, parse_set

    name = recipe
    if name is None:
        name, why = suitable_recipe(dataset)
        console.notice(f"recipe {name}: {why}")
    flags = [] if batch_size is None else [Override("train.global_batch", batch_size, "--batch-size")]
    return load_recipe(name, overrides=[*flags, *map(parse_set, settings)])


def spread(rate: "Rate") -> str:
    """The slowest and the fastest window."""
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
