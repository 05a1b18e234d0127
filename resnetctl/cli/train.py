"""`resnetctl train`."""

import os
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from resnetctl.cli import complete, console, early, failures, options
from resnetctl.errors import EXIT_INTERRUPTED

if TYPE_CHECKING:
    from resnetctl.distributed.group import Group
    from resnetctl.engine.events import Finished
    from resnetctl.engine.setup import TrainRequest

ECHO_SECONDS = 5.0
"""In which a rank takes a second signal for the first one: service managers send it to launcher and ranks alike."""


def train(
    epochs: options.Epochs = None,
    recipe: options.Recipe = None,
    batch_size: options.BatchSize = None,
    lr: Annotated[float | None, typer.Option("--lr", min=0, help="Peak learning rate, used as it is.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Seed of weights, order and crops.")] = None,
    arch: options.Arch = None,
    settings: options.Set = None,
    max_steps: options.MaxSteps = None,
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
    keep: options.Keep = None,
    gpus: Annotated[
        str | None, typer.Option("--gpus", metavar="N|all", help="Train on so many GPUs of this machine.")
    ] = None,
    cpu_procs: Annotated[
        int | None, typer.Option("--cpu-procs", min=1, metavar="N", help="Train in so many processes on the CPU.")
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Train a model; saves checkpoints as it goes, and goes on at any step with --resume."""
    overrides = options.overrides(
        settings,
        epochs=epochs,
        batch_size=batch_size,
        lr=lr,
        seed=seed,
        arch=arch,
        max_steps=max_steps,
        workers=workers,
        keep=keep,
    )
    early.check_train(data, runs, resume, which, name, recipe, overrides, gpus)
    from resnetctl.distributed.group import joined
    from resnetctl.distributed.launch import launch, tell_launcher
    from resnetctl.distributed.voice import one_voice
    from resnetctl.distributed.world import has_launcher, read_world
    from resnetctl.engine.device import local_ranks
    from resnetctl.engine.setup import TrainRequest

    world = read_world(os.environ)
    ranks = local_ranks(gpus, cpu_procs, device)
    if ranks > 1 and world.size == 1 and not has_launcher(os.environ):
        raise typer.Exit(launch(ranks, sys.argv[1:], console.warn))
    request = TrainRequest(
        data=data,
        runs=runs,
        device="cpu" if cpu_procs else device,
        resume=resume,
        which=which,
        name=name,
        recipe=recipe,
        overrides=overrides,
        allow_changes=allow_changes,
    )
    with joined(world) as group, one_voice(group, failures.tell):
        if not group.is_first:
            console.configure(quiet=True)
        finished, code = _train(request, group)
        if group.is_first:
            tell_launcher(code)
            if as_json:
                console.print_json(_summary(finished))
            elif not code:
                console.notice("next: resnetctl eval")
    raise typer.Exit(code if group.is_first else 0)


def _train(request: "TrainRequest", group: "Group") -> "tuple[Finished, int]":
    """Train as requested, in one rank of `group`, and show how it goes; how it ended, and the exit code."""
    from resnetctl.cli.render import renderer
    from resnetctl.distributed.world import has_launcher
    from resnetctl.engine.events import Finished, Notice
    from resnetctl.engine.setup import set_up
    from resnetctl.engine.signals import exit_code, stop_on_signals
    from resnetctl.engine.train_loop import train

    finished = None
    with (
        set_up(request, group, console.notice, console.warn) as setup,
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
            for event in train(setup, stop):
                show(event)
                finished = event
        except KeyboardInterrupt:
            if stop.signal is None or exit_code(stop.signal) == EXIT_INTERRUPTED:
                raise
            raise SystemExit(exit_code(stop.signal)) from None
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
