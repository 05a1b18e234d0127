"""`resnetctl runs`: list, show, compare and delete runs."""

import shutil
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from resnetctl.cli import complete, console, help, options
from resnetctl.errors import UsageError, counted, printable

if TYPE_CHECKING:
    from resnetctl.runs.metrics import Measured, Reading
    from resnetctl.runs.summary import Summary

app = typer.Typer(cls=help.Group, no_args_is_help=True, help="List, show, compare and delete runs.")

Which = Annotated[str | None, options.run_argument("A run's name or folder.")]
Several = Annotated[
    list[str], typer.Argument(metavar="RUN…", autocompletion=complete.runs, help="Runs' names or folders.")
]


@app.command("list")
def list_(runs: options.RunsRoot = options.DEFAULT_RUNS, as_json: options.Json = False) -> None:
    """List the runs, most recently written first.

    \b
    Examples:
      resnetctl runs list
      resnetctl runs list --json
    """
    from resnetctl.report.numbers import NONE, percent, when
    from resnetctl.runs.summary import summaries

    found = summaries(runs)
    if as_json:
        console.print_document("runs list", {"runs": [_facts(s) for s in found]})
        return
    if not found:
        console.notice(f"no runs in {printable(runs)}; start one with: resnetctl train")
        return
    rows = [
        (
            s.name,
            s.recipe.name if s.recipe else NONE,
            s.recipe.model.arch if s.recipe else NONE,
            f"{s.epoch:.3g} of {s.recipe.train.epochs}" if s.recipe else f"{s.epoch:.3g}",
            percent(s.metrics.best),
            when(s.changed),
            s.state or NONE,
            console.size(s.size),
        )
        for s in found
    ]
    console.table(
        ("run", "recipe", "model", "epochs", "best top-1", "last written", "state", "size"),
        rows,
        spare=("size", "model", "recipe", "last written", "epochs"),
    )


@app.command("show")
def show(which: Which = None, runs: options.RunsRoot = options.DEFAULT_RUNS, as_json: options.Json = False) -> None:
    """Show one run: its figures, and its loss and top-1 as curves.

    \b
    Examples:
      resnetctl runs show
      resnetctl runs show first
    """
    from resnetctl.report.numbers import side_by_side
    from resnetctl.report.terminal import plot

    s = _summary(runs, which)
    if as_json:
        metrics = {
            "readings": [vars(r) for r in s.metrics.readings],
            "evaluations": [vars(e) for e in s.metrics.evaluations],
        }
        console.print_document("runs show", {**_facts(s), **metrics})
        return
    console.table(("", ""), [(label, values[0]) for label, values in side_by_side([s])], title=str(s.run.folder))
    width = min(shutil.get_terminal_size((80, 24)).columns, 100)
    readings, evaluations = s.metrics.readings, s.metrics.evaluations
    losses = [
        (".", "training", [(r.epoch, r.loss) for r in readings]),
        ("o", "val", [(e.epoch, e.loss) for e in evaluations]),
    ]
    hits = [
        ("+", "top-5", [(e.epoch, e.top5) for e in evaluations]),
        ("o", "top-1", [(e.epoch, e.top1) for e in evaluations]),
    ]
    for title, curves in (("loss", losses), ("correct, %", hits)):
        console.out().print()
        console.out().print(plot(title, curves, width=width, height=10, x_name="epochs"))


@app.command("compare")
def compare(which: Several, runs: options.RunsRoot = options.DEFAULT_RUNS, as_json: options.Json = False) -> None:
    """Show the differences between the recipes of several runs, and their figures side by side.

    \b
    Examples:
      resnetctl runs compare first second
    """
    if len(which) < 2:
        raise UsageError("compare needs two runs or more", hint="resnetctl runs list shows all of them")
    from resnetctl.report.numbers import NONE, differing_values, side_by_side

    found = [_summary(runs, name) for name in which]
    differing = differing_values(found)
    if as_json:
        differences = [{"key": key, "values": values} for key, values in differing]
        console.print_document("runs compare", {"runs": [_facts(s) for s in found], "differences": differences})
        return
    names = [s.name for s in found]
    if differing:
        from resnetctl.recipe import show_value

        rows = [(key, *(NONE if v is None else show_value(v) for v in values)) for key, values in differing]
        console.table(("recipe", *names), rows)
    else:
        console.out().print("the recipes are the same")
    console.out().print()
    console.table(("result", *names), [(label, *values) for label, values in side_by_side(found)])


@app.command("rm")
def rm(
    which: Several,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    runs: options.RunsRoot = options.DEFAULT_RUNS,
    as_json: options.Json = False,
) -> None:
    """Delete runs with all of their checkpoints. A run that is being trained is refused.

    \b
    Examples:
      resnetctl runs rm --yes first second
    """
    from resnetctl.runs.find import find_run
    from resnetctl.runs.remove import remove_run
    from resnetctl.runs.summary import summarise

    found = [summarise(run) for run in dict.fromkeys(find_run(runs, name) for name in which)]
    for s in found:
        if s.state == "running":
            raise UsageError(f"{printable(s.name)} is being trained", hint="stop it first, or wait for it to finish")
    if not yes:
        _ask(found)
    for s in found:
        remove_run(runs, s.run)
        if not as_json:
            console.out().print(f"deleted {printable(s.run.folder)}, {console.size(s.size)}")
    if as_json:
        gone = [{"name": s.name, "run": str(s.run.folder), "bytes": s.size} for s in found]
        console.print_document("runs rm", {"runs": gone})


@app.command("export-metrics")
def export_metrics(
    which: Annotated[list[str] | None, options.run_argument("Runs' names or folders.", "[RUN]…")] = None,
    runs: options.RunsRoot = options.DEFAULT_RUNS,
    as_json: options.Json = False,
) -> None:
    """Write every reading of the loss and every evaluation as CSV on stdout.

    \b
    Examples:
      resnetctl runs export-metrics > metrics.csv
      resnetctl runs export-metrics first second > metrics.csv
    """
    import csv

    found = [_summary(runs, name) for name in which] if which else [_summary(runs, None)]
    lines = [(s.name, line) for s in found for line in s.metrics.lines]
    if as_json:
        rows = [{"name": name, **_line(line)} for name, line in lines]
        console.print_document("runs export-metrics", {"lines": rows})
        return
    writer = csv.DictWriter(sys.stdout, ["run", *_COLUMNS], lineterminator="\n")
    writer.writeheader()
    for name, line in lines:
        row = {k: v for k, v in _line(line).items() if v == v}  # a NaN becomes an empty cell
        writer.writerow({"run": name, **row})


_COLUMNS = (
    *("kind", "step", "epoch", "loss", "lr", "images_per_second", "waiting"),
    *("top1", "top5", "images", "seconds", "time", "worked"),
)


def _line(line: "Reading | Measured") -> dict[str, Any]:
    return {"kind": "eval" if hasattr(line, "top1") else "train", **vars(line)}


def _summary(root: Any, which: str | None) -> "Summary":
    from resnetctl.runs.find import find_run
    from resnetctl.runs.summary import summarise

    return summarise(find_run(root, which))


def _ask(found: "list[Summary]") -> None:
    from resnetctl.report.numbers import percent

    for s in found:
        best = f", best top-1 {percent(s.metrics.best)}" if s.metrics.best else ""
        console.err().print(f"{printable(s.run.folder)}: {console.size(s.size)}, {s.epoch:.3g} epochs{best}")
    if not sys.stdin.isatty():
        raise UsageError("nothing was deleted: there is no terminal for the confirmation", hint="add --yes")
    if not typer.confirm(f"delete {counted(len(found), 'run')} with all checkpoints?", err=True):
        raise typer.Exit(1)


def _facts(s: "Summary") -> dict[str, Any]:
    best, last = s.metrics.best, s.last
    return {
        "name": s.name,
        "run": str(s.run.folder),
        "state": s.state,
        "recipe": s.recipe.name if s.recipe else None,
        "arch": s.recipe.model.arch if s.recipe else None,
        "epoch": s.epoch,
        "epochs": s.recipe.train.epochs if s.recipe else None,
        "best": vars(best) if best else None,
        "last": vars(last) if last else None,
        "last_written": s.changed,
        "bytes": s.size,
    }
