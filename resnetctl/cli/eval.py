"""`resnetctl eval`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from resnetctl.cli import complete, console, early, options
from resnetctl.errors import DataError, some

if TYPE_CHECKING:
    from resnetctl.engine.evaluate import Result


def eval_(
    which: Annotated[
        str | None,
        typer.Argument(
            metavar="[RUN]",
            show_default="the latest run",
            autocompletion=complete.runs,
            help="A run's name or folder, or a checkpoint file.",
        ),
    ] = None,
    data: options.DataRoot = options.DEFAULT_DATA,
    runs: options.RunsRoot = options.DEFAULT_RUNS,
    device: options.Device = "auto",
    workers: options.Workers = None,
    skip_quarantined: Annotated[
        bool,
        typer.Option("--skip-quarantined", help="Measure without the val images that verify put into quarantine."),
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Measure top-1 and top-5 of a run's newest checkpoint on the val images."""
    dataset = early.check_eval(data, runs, which)
    from resnetctl.engine.device import choose_device
    from resnetctl.engine.evaluate import Result, evaluate_checkpoint
    from resnetctl.hardware import default_workers, usable_cores
    from resnetctl.runs.checkpoint import find_checkpoint

    path, checkpoint = find_checkpoint(runs, which, console.warn)
    index = dataset.val()
    if index.quarantined and not skip_quarantined:
        raise DataError(
            f"{index.quarantined:,} val images are in quarantine: what is measured without them compares with nothing",
            hint="mend them and run resnetctl verify, or add --skip-quarantined to measure on the other "
            f"{len(index):,}",
        )
    chosen = choose_device(device)
    number = workers if workers is not None else default_workers(chosen.type, usable_cores())
    result = None
    with console.progress() as progress:
        for event in evaluate_checkpoint(checkpoint, index, device=chosen, workers=number, notice=console.notice):
            if isinstance(event, Result):
                result = event
            else:
                progress("evaluating", event.images, event.total)
    assert result is not None
    if result.unreadable:
        names = some([index.name(i) for i in result.unreadable])
        console.warn(f"{len(result.unreadable)} images could not be read and count as wrong: {names}")
    _show(result, path, index.quarantined, as_json)


def _show(result: "Result", path: Path, quarantined: int, as_json: bool) -> None:
    from resnetctl.suites.statistics import wilson_interval

    intervals = [wilson_interval(n, result.images) for n in (result.correct1, result.correct5)]
    if as_json:
        document: dict[str, Any] = {
            "top1": result.top1,
            "top5": result.top5,
            "correct1": result.correct1,
            "correct5": result.correct5,
            "images": result.images,
            "loss": result.loss,
            "checkpoint": str(path),
            "seconds": result.seconds,
            "top1_interval": intervals[0],
            "top5_interval": intervals[1],
            "unreadable": len(result.unreadable),
            "quarantined": quarantined,
        }
        console.print_document("eval", document)
        return
    rows = [
        (label, f"{value:.2f} %", f"{low:.2f} to {high:.2f} %", f"{correct:,} of {result.images:,}")
        for label, value, (low, high), correct in (
            ("top-1", result.top1, intervals[0], result.correct1),
            ("top-5", result.top5, intervals[1], result.correct5),
        )
    ]
    console.table(("", "accuracy", "95 % interval", "right"), rows, title=f"{path}")
    console.out().print(f"loss {result.loss:.4f}, {result.images:,} images in {result.seconds:.1f} s")
    if quarantined:
        console.warn(f"measured without {quarantined:,} val images that are in quarantine")
