"""`resnetctl train`."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from resnetctl.cli import complete, console, early, failures, live, options
from resnetctl.cli.ranks import start_ranks
from resnetctl.errors import EXIT_INTERRUPTED, exit_code_of

if TYPE_CHECKING:
    from resnetctl.cli.render import Render
    from resnetctl.distributed.group import Group
    from resnetctl.engine.events import Finished
    from resnetctl.engine.setup import TrainRequest

ECHO_SECONDS = 5.0
"""Time in which a rank ignores a repeated signal: service managers signal both the launcher and the ranks."""


def train(
    epochs: options.Epochs = None,
    recipe: options.Recipe = None,
    batch_size: options.BatchSize = None,
    lr: Annotated[float | None, options.recipe_option("--lr", min=0, help="Peak learning rate, used as given.")] = None,
    seed: Annotated[
        int | None, options.recipe_option("--seed", min=0, help="Seed of weights, order and crops.")
    ] = None,
    arch: options.Arch = None,
    weights: Annotated[
        str | None,
        options.weights_option(
            "Starting weights: imagenet1k-v1, imagenet1k-v2, hf:OWNER/NAME (timm's), or a .safetensors or .pth "
            "file; without --recipe the recipe is finetune.",
            options.RECIPE,
        ),
    ] = None,
    settings: options.Set = None,
    max_steps: options.MaxSteps = None,
    data: options.DataRoot = options.DEFAULT_DATA,
    runs: options.RunsRoot = options.DEFAULT_RUNS,
    name: Annotated[str | None, typer.Option("--name", help="Name of the run's folder.")] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Resume RUN (a name, folder or checkpoint file); without RUN the latest."),
    ] = False,
    which: Annotated[
        str | None,
        typer.Argument(
            metavar="[RUN]", show_default=False, autocompletion=complete.runs, help="With --resume: the run."
        ),
    ] = None,
    allow_changes: Annotated[
        bool, typer.Option("--allow-changes", help="With --resume: accept values that differ from the run's recipe.")
    ] = False,
    device: options.Device = "auto",
    workers: options.Workers = None,
    keep: options.Keep = None,
    gpus: options.Gpus = None,
    cpu_procs: options.CpuProcs = None,
    as_json: options.Json = False,
) -> None:
    """Train a model; saves checkpoints as it goes, and resumes at any step with --resume.

    \b
    Examples:
      resnetctl train --epochs 10
      resnetctl train --recipe fast --epochs 16 --gpus all --name first
      resnetctl train --resume first
      resnetctl train --weights imagenet1k-v2 --epochs 5
      resnetctl train --arch resnet18 --set schedule.name=cosine
    """
    overrides = options.overrides(
        settings,
        epochs=epochs,
        batch_size=batch_size,
        lr=lr,
        seed=seed,
        arch=arch,
        weights=weights,
        max_steps=max_steps,
        workers=workers,
        keep=keep,
    )
    early.check_train(data, runs, resume, which, name, recipe, overrides, gpus)
    if (code := start_ranks(gpus, cpu_procs, device)) is not None:
        raise typer.Exit(code)
    from resnetctl.engine.events import Preparing

    again = options.again(data=data, runs=runs, device=device, gpus=gpus, cpu_procs=cpu_procs)
    with _shown(again) as show:
        show(Preparing(what="importing torch"))
        from resnetctl.engine.setup import TrainRequest

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
        raise typer.Exit(_ranks_part(request, show, as_json))


@contextmanager
def _shown(again: str) -> "Iterator[Render]":
    """A renderer of events; of several ranks only the first shows any."""
    from resnetctl.cli.render import renderer
    from resnetctl.distributed.world import read_world

    if read_world(os.environ).rank:
        console.configure(quiet=True)
    with renderer(
        console.err(),
        quiet=console.is_quiet(),
        verbose=console.is_verbose(),
        seconds=console.progress_seconds(),
        options=again,
    ) as show:
        yield show


def _ranks_part(request: "TrainRequest", show: "Render", as_json: bool) -> int:
    """Run this rank's part of `request`; returns the exit code."""
    from resnetctl.distributed.group import joined
    from resnetctl.distributed.launch import tell_launcher
    from resnetctl.distributed.voice import one_voice
    from resnetctl.distributed.world import read_world

    with joined(read_world(os.environ)) as group, one_voice(group, failures.tell):
        finished, code = _train(request, group, show)
        if group.is_first:
            tell_launcher(code)
            if as_json:
                console.print_document("train", _document(finished, request))
    return code if group.is_first else 0


def _train(request: "TrainRequest", group: "Group", show: "Render") -> "tuple[Finished, int]":
    """Train as requested, in one rank of `group`, showing events; returns the last event and the exit code."""
    from resnetctl.distributed.world import has_launcher
    from resnetctl.engine.events import Finished, Notice, Preparing
    from resnetctl.engine.setup import set_up
    from resnetctl.engine.signals import stop_on_signals
    from resnetctl.engine.train_loop import train

    finished = None
    show(Preparing(what="opening the data set"))
    with (
        set_up(request, group, console.notice, console.warn) as setup,
        stop_on_signals(
            lambda text: show(Notice(text=text)), _leave, ECHO_SECONDS if has_launcher(os.environ) else 0
        ) as stop,
    ):
        show(Preparing(what="building the model"))
        try:
            for event in train(setup, stop):
                show(event)
                finished = event
        except KeyboardInterrupt:
            if stop.signal is None or exit_code_of(stop.signal) == EXIT_INTERRUPTED:
                raise
            raise SystemExit(exit_code_of(stop.signal)) from None
    assert isinstance(finished, Finished)
    return finished, 0 if finished.stopped_by is None else exit_code_of(finished.stopped_by)


def _leave(number: int) -> None:
    """Exit now, as the second signal asks: saved checkpoints are intact, and nothing else is waited for."""
    text = "" if console.is_quiet() else "interrupted\n"
    if console.is_live(console.err()):
        text = live.RESTORE + text
    os.write(2, text.encode())
    os._exit(exit_code_of(number))


def _document(finished: "Finished", request: "TrainRequest") -> dict[str, Any]:
    return {
        "run": str(finished.run),
        "data": str(request.data),
        "checkpoint": str(finished.checkpoint),
        "step": finished.step,
        "steps": finished.steps,
        "complete": finished.stopped_by is None,
        "top1": finished.top1,
        "top5": finished.top5,
        "best_top1": finished.best_top1,
        "best_epoch": finished.best_epoch,
        "seconds": finished.seconds,
        "images_per_second": finished.images_per_second,
        "waiting": finished.waiting,
        "unreadable": len(finished.unreadable),
        "unreadable_names": list(finished.unreadable),
    }
