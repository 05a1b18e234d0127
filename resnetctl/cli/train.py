"""`resnetctl train`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from resnetctl.cli import complete, console, options
from resnetctl.errors import UsageError, printable

if TYPE_CHECKING:
    from resnetctl.checkpoint import Checkpoint
    from resnetctl.data.dataset import Dataset
    from resnetctl.engine.events import Finished
    from resnetctl.engine.run import Run
    from resnetctl.recipe import Override, Recipe

IMAGENET_SIZED = 100_000
"""Train images from which on `fast` is the recipe where nothing else says which."""

# what may differ from the checkpoint's recipe without changing what is computed
_HARMLESS = ("data.workers", "checkpoint.", "train.max_steps", "train.compile", "train.eval_every_epochs")

_LATEST = "latest"


def train(
    ctx: typer.Context,
    epochs: Annotated[int | None, typer.Option("--epochs", min=1, help="Passes over the train images.")] = None,
    recipe: options.Recipe = None,
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", min=1, help="Global batch: images of one optimizer step.")
    ] = None,
    lr: Annotated[float | None, typer.Option("--lr", min=0, help="Peak learning rate, used as it is.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Seed of weights, order and crops.")] = None,
    arch: Annotated[
        str | None, typer.Option("--arch", metavar="NAME", help="resnet18, resnet34, resnet50, resnet101, resnet152.")
    ] = None,
    settings: options.Set = None,
    max_steps: Annotated[
        int | None, typer.Option("--max-steps", min=1, help="Stop after so many steps, the schedule unchanged.")
    ] = None,
    data: options.DataRoot = options.DEFAULT_DATA,
    runs: options.RunsRoot = options.DEFAULT_RUNS,
    name: Annotated[str | None, typer.Option("--name", help="Name of the run's folder.")] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on with RUN (a name, folder or checkpoint file); without RUN the latest."),
    ] = False,
    which: Annotated[
        str | None,
        typer.Argument(
            metavar="[RUN]", show_default=False, autocompletion=complete.runs, help="With --resume: which run."
        ),
    ] = None,
    allow_changes: Annotated[
        bool, typer.Option("--allow-changes", help="With --resume: take values that differ from the run's recipe.")
    ] = False,
    device: options.Device = "auto",
    workers: options.Workers = None,
    as_json: options.Json = False,
) -> None:
    """Train a model; saves checkpoints as it goes, and goes on at any step with --resume."""
    if which is not None and not resume:
        raise UsageError(
            f"what is {printable(which)!r}?", hint=f"to go on with a run: resnetctl train --resume {printable(which)}"
        )
    flags = _overrides(
        {
            "train.epochs": ("--epochs", epochs),
            "train.global_batch": ("--batch-size", batch_size),
            "optimizer.lr": ("--lr", lr),
            "train.seed": ("--seed", seed),
            "model.arch": ("--arch", arch),
            "train.max_steps": ("--max-steps", max_steps),
            "data.workers": ("--workers", workers),
        },
        settings or [],
    )
    from resnetctl.data.dataset import load_dataset

    dataset = load_dataset(data)
    if resume:
        finished, code = _resume(dataset, runs, which, name, recipe, flags, allow_changes, device)
    else:
        finished, code = _begin(dataset, runs, name, recipe, flags, device)
    if as_json:
        console.print_json(_summary(finished))
    elif not code:
        console.notice("next: resnetctl eval")
    raise typer.Exit(code)


def _overrides(flags: dict[str, tuple[str, Any]], settings: list[str]) -> "list[Override]":
    from resnetctl.recipe import Override, parse_set

    given = [Override(key, value, flag) for key, (flag, value) in flags.items() if value is not None]
    return given + [parse_set(text) for text in settings]


def _begin(
    dataset: "Dataset", runs: Path, name: str | None, recipe_name: str | None, flags: "list[Override]", device: str
) -> "tuple[Finished, int]":
    from resnetctl.engine.device import choose_device
    from resnetctl.engine.run import create_run, point_latest
    from resnetctl.engine.train import check_job
    from resnetctl.files import write_atomically
    from resnetctl.recipe import load_recipe, recipe_to_toml

    if recipe_name is None:
        recipe_name, why = _suitable_recipe(dataset)
        console.notice(f"recipe {recipe_name}: {why}")
    recipe = load_recipe(recipe_name, overrides=flags)
    chosen = choose_device(device)
    check_job(recipe, len(dataset.train()), chosen)
    run = create_run(runs, name, recipe.name)
    write_atomically(run.recipe, recipe_to_toml(recipe))
    point_latest(runs, run)
    return _train(run, recipe, dataset, chosen, None)


def _suitable_recipe(dataset: "Dataset") -> tuple[str, str]:
    if dataset.recipe:
        return dataset.recipe, f"the data set {printable(dataset.name)} names it in its dataset.json"
    if dataset.train_images >= IMAGENET_SIZED:
        return "fast", f"{dataset.train_images:,} train images are {IMAGENET_SIZED:,} or more"
    return "small", f"{dataset.train_images:,} train images are fewer than {IMAGENET_SIZED:,}"


def _resume(
    dataset: "Dataset",
    runs: Path,
    which: str | None,
    name: str | None,
    recipe_name: str | None,
    flags: "list[Override]",
    allow_changes: bool,
    device: str,
) -> "tuple[Finished, int]":
    from resnetctl.engine.device import choose_device
    from resnetctl.engine.resume import branch, check_data, check_newest, find_start, resumed_recipe
    from resnetctl.engine.run import point_latest

    run, checkpoint, notices = find_start(runs, which)
    for text in notices:
        console.warn(text)
    recipe, changes = resumed_recipe(checkpoint, recipe_name, flags)
    check_data(checkpoint, dataset.train())
    serious = [c for c in changes if not c[0].startswith(_HARMLESS)]
    for key, old, new in changes:
        console.notice(f"{key}: {old} → {new}")
    if serious and not allow_changes:
        raise UsageError(
            f"{', '.join(c[0] for c in serious)} would differ from what the run was started with",
            hint="leave the flag out to go on exactly, or add --allow-changes",
        )
    if name is not None:
        run = branch(runs, run, name, checkpoint, recipe)
    else:
        check_newest(run, checkpoint)
    point_latest(run.folder.parent, run)
    return _train(run, recipe, dataset, choose_device(device), checkpoint)


def _train(
    run: "Run", recipe: "Recipe", dataset: "Dataset", device: Any, start: "Checkpoint | None"
) -> "tuple[Finished, int]":
    from resnetctl.engine.events import Finished
    from resnetctl.engine.signals import stop_on_signals
    from resnetctl.engine.train import Job, train
    from resnetctl.files import folder_lock, sweep_temporary_files
    from resnetctl.hardware import default_workers
    from resnetctl.report.render import renderer

    workers = recipe.data.workers if recipe.data.workers >= 0 else default_workers(device.type)
    job = Job(
        run=run,
        recipe=recipe,
        train=dataset.train(),
        val=dataset.val() if dataset.val_images else None,
        device=device,
        workers=workers,
        start=start,
    )
    finished = None
    with (
        folder_lock(run.folder, "training"),
        stop_on_signals() as stop,
        renderer(
            console.err(),
            quiet=console.is_quiet(),
            verbose=console.is_verbose(),
            seconds=console.progress_seconds(),
        ) as show,
    ):
        sweep_temporary_files(run.folder)
        sweep_temporary_files(run.checkpoints)
        for event in train(job, stop):
            show(event)
            finished = event
    assert isinstance(finished, Finished)
    return finished, stop.exit_code() if finished.stopped_by is not None else 0


def _summary(finished: "Finished") -> dict[str, Any]:
    return {
        "run": str(finished.run),
        "step": finished.step,
        "steps": finished.steps,
        "top1": finished.top1,
        "top5": finished.top5,
        "seconds": finished.seconds,
        "images_per_second": finished.images_per_second,
        "waiting": finished.waiting,
        "checkpoint": str(finished.checkpoint),
        "unreadable": list(finished.unreadable),
        "complete": finished.stopped_by is None,
    }
