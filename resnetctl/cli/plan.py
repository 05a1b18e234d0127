"""`resnetctl plan`."""

from dataclasses import asdict
from typing import TYPE_CHECKING

from resnetctl.cli import bench, console, options

if TYPE_CHECKING:
    from resnetctl.engine.plan import Plan
    from resnetctl.recipe import Recipe


def plan(
    epochs: options.Epochs = None,
    recipe: options.Recipe = None,
    batch_size: options.BatchSize = None,
    arch: options.Arch = None,
    settings: options.Set = None,
    max_steps: options.MaxSteps = None,
    seconds: bench.Seconds = 5.0,
    data: options.DataRoot = options.DEFAULT_DATA,
    runs: options.RunsRoot = options.DEFAULT_RUNS,
    device: options.Device = "auto",
    workers: options.Workers = None,
    keep: options.Keep = None,
    as_json: options.Json = False,
) -> None:
    """Measure this machine and tell how long a run would take, what limits it, what fits, and what would help.

    \b
    Examples:
      resnetctl plan --epochs 10
      resnetctl plan --recipe nvidia-90 --set train.global_batch=1024 --json
    """
    overrides = options.overrides(
        settings, epochs=epochs, batch_size=batch_size, arch=arch, max_steps=max_steps, workers=workers, keep=keep
    )
    dataset, chosen = bench.chosen_recipe(data, recipe, overrides)
    from resnetctl.engine.device import choose_device
    from resnetctl.engine.plan import make_plan

    with console.progress() as progress:
        made = make_plan(
            chosen,
            dataset.train(),
            dataset.val() if dataset.val_images else None,
            runs,
            device=choose_device(device),
            seconds=seconds,
            progress=progress,
        )
    if as_json:
        facts = asdict(made)
        measured = {part: facts.pop(part) for part in ("loader", "model")}
        facts = {"data": str(dataset.root), "recipe": chosen.name, **facts, "measured": measured}
        console.print_document("plan", facts)
    else:
        _show(made, chosen)
    for problem in made.problems:
        console.warn(problem)


def _show(plan: "Plan", recipe: "Recipe") -> None:
    size, duration = console.size, console.duration
    model, loader = plan.model, plan.loader
    limits = {"loader": "the loader: the model waits for it", "model": "the model: the loader keeps up"}
    memory = f"{size(plan.memory_bytes)} of {size(plan.memory_free_bytes)} free" if plan.memory_bytes else "not known"
    shm = f"{size(plan.shm_bytes)} of {size(plan.shm_free_bytes)} free" if plan.shm_free_bytes is not None else "none"
    compiled = ", compiled" if model.compiled else ""
    rows = [
        ("limited by", limits[plan.limits]),
        ("together", f"{plan.images_per_second:,.1f} img/s at {model.size} px"),
        ("training step", f"{model.rate.median:,.1f} img/s ({bench.spread(model.rate)}), {model.precision}{compiled}"),
        ("loader", f"{loader.rate.median:,.0f} img/s a worker ({bench.spread(loader.rate)}), {loader.decoder}"),
        ("workers", f"{plan.workers}, of {plan.cores} cores"),
        ("micro-batch", f"{plan.micro_batch}; {plan.largest_micro_batch} would fit"),
        ("memory", memory),
        ("/dev/shm", shm),
        ("disk for checkpoints", f"{size(plan.disk_bytes)} of {size(plan.disk_free_bytes)} free"),
        ("an epoch", duration(plan.epoch_seconds)),
        ("an evaluation", f"about {duration(plan.eval_seconds)}" if plan.eval_seconds else "no val images"),
        ("the run", f"about {duration(plan.run_seconds)}: {recipe.train.epochs} epochs, {plan.steps:,} steps"),
        *(("would help" if n == 0 else "", text) for n, text in enumerate(plan.advice)),
    ]
    console.table(("", ""), rows, title=f"{recipe.name} on {plan.device}")
