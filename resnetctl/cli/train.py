"""`resnetctl train`."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from resnetctl.cli import complete, console, options
from resnetctl.errors import EXIT_INTERRUPTED, DataError, ResnetctlError, UsageError, printable, some

if TYPE_CHECKING:
    from resnetctl.data.dataset import Dataset
    from resnetctl.distributed.group import Group
    from resnetctl.engine.begin import Wish
    from resnetctl.engine.events import Finished
    from resnetctl.recipe import Override, Recipe
    from resnetctl.runs.checkpoint import Checkpoint
    from resnetctl.runs.folder import Run

ECHO_SECONDS = 5.0
"""In which a rank takes a second signal for the first one: service managers send it to launcher and ranks alike."""


def train(
    epochs: Annotated[int | None, typer.Option("--epochs", min=1, help="Passes over the train images.")] = None,
    recipe: options.Recipe = None,
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", min=1, help="Global batch: images of one optimizer step.")
    ] = None,
    lr: Annotated[float | None, typer.Option("--lr", min=0, help="Peak learning rate, used as it is.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Seed of weights, order and crops.")] = None,
    arch: Annotated[
        str | None,
        typer.Option(
            "--arch",
            autocompletion=complete.architectures,
            help="Model: resnet18, resnet34, resnet50, resnet101 or resnet152.",
        ),
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
    keep: Annotated[
        int | None, typer.Option("--keep", min=2, help="How many of the newest checkpoints stay, besides the best.")
    ] = None,
    gpus: Annotated[
        str | None, typer.Option("--gpus", metavar="N|all", help="Train on so many GPUs of this machine.")
    ] = None,
    cpu_procs: Annotated[
        int | None, typer.Option("--cpu-procs", min=1, metavar="N", help="Train in so many processes on the CPU.")
    ] = None,
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
            "checkpoint.keep": ("--keep", keep),
        },
        settings or [],
    )
    from resnetctl.distributed.group import joined
    from resnetctl.distributed.launch import launch, tell_launcher
    from resnetctl.distributed.world import has_launcher, read_world

    world = read_world(os.environ)
    ranks = _ranks(gpus, cpu_procs, device)
    if ranks > 1 and world.size == 1 and not has_launcher(os.environ):
        raise typer.Exit(launch(ranks, sys.argv[1:], console.warn))
    from resnetctl.engine.begin import Wish

    wish = Wish(
        runs=runs, resume=resume, which=which, name=name, recipe=recipe, flags=flags, allow_changes=allow_changes
    )
    with joined(world) as group, _one_voice(group):
        finished, code = _run(wish, data, "cpu" if cpu_procs else device, group)
        if group.is_first:
            tell_launcher(code)
            if as_json:
                console.print_json(_summary(finished))
            elif not code:
                console.notice("next: resnetctl eval")
    raise typer.Exit(code if group.is_first else 0)


def _ranks(gpus: str | None, cpu_procs: int | None, device: str) -> int:
    if gpus is None:
        return cpu_procs or 1
    if cpu_procs is not None or device not in ("auto", "cuda"):
        raise UsageError("--gpus goes with neither --cpu-procs nor another --device")
    import torch

    here = torch.cuda.device_count()
    if gpus != "all" and not (gpus.isdecimal() and int(gpus) > 0):
        raise UsageError(f"--gpus {printable(gpus)}: a number from 1, or all", hint=f"there are {here} here")
    wanted = here if gpus == "all" else int(gpus)
    if not 0 < wanted <= here:
        raise UsageError(
            f"--gpus {gpus}, and torch finds {here} on this machine", hint="resnetctl info shows what there is"
        )
    return wanted


@contextmanager
def _one_voice(group: "Group") -> Iterator[None]:
    """The first rank alone tells how the run goes; an error is told once, by the first rank that has one."""
    from resnetctl.distributed.group import EXIT_LOST, as_lost_rank
    from resnetctl.distributed.launch import die_with_launcher, tell_launcher
    from resnetctl.distributed.world import has_launcher, is_launched

    if group.size == 1:
        yield
        return
    if has_launcher(os.environ):
        die_with_launcher()
    if not group.is_first:
        console.configure(quiet=True)
    try:
        yield
    except typer.Exit:
        raise
    except Exception as error:
        lost = as_lost_rank(error)
        if (lost and is_launched(os.environ)) or not group.claim_error():
            raise typer.Exit(EXIT_LOST) from None
        shown: Exception = lost or error
        if isinstance(shown, ResnetctlError):
            tell_launcher(shown.exit_code)
            raise type(shown)(f"rank {group.rank}: {shown.message}", hint=shown.hint) from error
        raise


def _overrides(flags: dict[str, tuple[str, Any]], settings: list[str]) -> "list[Override]":
    from resnetctl.recipe import Override, parse_set

    given = [Override(key, value, flag) for key, (flag, value) in flags.items() if value is not None]
    return given + [parse_set(text) for text in settings]


def _run(wish: "Wish", data: Path, wanted: str, group: "Group") -> "tuple[Finished, int]":
    """Train as wished, in one rank of `group`; the first one decides what and writes it down."""
    from resnetctl.data.dataset import load_dataset
    from resnetctl.engine.begin import Beginning
    from resnetctl.engine.device import rank_device
    from resnetctl.engine.resume import share_start
    from resnetctl.runs.folder import point_latest

    dataset = load_dataset(data)
    fingerprint = dataset.train().info.fingerprint
    if group.broadcast(fingerprint) != fingerprint:
        raise DataError("this rank's data root holds another data set than the first rank's")
    device = rank_device(wanted, group.world.local_rank, group.world.local_size)
    # on several nodes any of them may have the first rank after a restart, and not each of them counts it
    again = group.all_max([group.world.restarts])[0] > 0
    launches = group.all_gather(group.world.launch) if again else []
    with ExitStack() as lock, ExitStack() as undo:
        beginning = Beginning(
            wish=wish,
            dataset=dataset,
            device=device,
            group=group,
            lock=lock,
            undo=undo,
            notice=console.notice,
            warn=console.warn,
        )
        plan = beginning.decide(launches) if group.is_first else None
        run, recipe = group.broadcast(plan[:2] if plan else None)
        start = share_start(group, plan[2] if plan else None)

        def begun() -> None:
            undo.pop_all()
            if group.is_first:
                point_latest(run.folder.parent, run)

        return _train(run, recipe, dataset, device, start, group, begun)


def _train(
    run: "Run",
    recipe: "Recipe",
    dataset: "Dataset",
    device: Any,
    start: "Checkpoint | None",
    group: "Group",
    begun: Callable[[], None],
) -> "tuple[Finished, int]":
    from resnetctl.cli.render import renderer
    from resnetctl.data.dataset import quarantined_samples
    from resnetctl.distributed.world import has_launcher
    from resnetctl.engine.events import Finished, Notice, Started
    from resnetctl.engine.signals import exit_code, stop_on_signals
    from resnetctl.engine.train import Job, train
    from resnetctl.hardware import default_workers

    for split, count in dataset.quarantined.items() if group.rank == 0 else ():
        names = quarantined_samples(dataset, split)
        console.warn(f"{count:,} {split} images are in quarantine and left out: {some(names)}")
    workers = recipe.data.workers
    job = Job(
        run=run,
        recipe=recipe,
        train=dataset.train(),
        val=dataset.val() if dataset.val_images else None,
        device=device,
        workers=workers if workers >= 0 else default_workers(device.type, group.world.local_size),
        start=start,
        group=group,
    )
    finished = None
    with (
        renderer(
            console.err(),
            quiet=console.is_quiet(),
            verbose=console.is_verbose(),
            seconds=console.progress_seconds(),
        ) as show,
        stop_on_signals(
            lambda text: show(Notice(text=text)), _leave, ECHO_SECONDS if has_launcher(os.environ) else 0
        ) as stop,
    ):
        try:
            for event in train(job, stop):
                if isinstance(event, Started):
                    stop.begun = True
                    begun()
                show(event)
                finished = event
        except KeyboardInterrupt:
            if stop.signal is None or exit_code(stop.signal) == EXIT_INTERRUPTED:
                raise
            raise typer.Exit(exit_code(stop.signal)) from None
    assert isinstance(finished, Finished)
    return finished, 0 if finished.stopped_by is None else exit_code(finished.stopped_by)


def _leave(number: int) -> None:
    """End this process now, as the second signal asks: what was saved is whole, and nothing else is waited for."""
    from resnetctl.engine.signals import exit_code

    text = "" if console.is_quiet() else "interrupted\n"
    if console.err().is_terminal:
        text = f"\r\x1b[2K\x1b[?25h{text}"  # in place of the bar, which hides the cursor
    os.write(2, text.encode())
    os._exit(exit_code(number))


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
