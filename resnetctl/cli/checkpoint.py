"""`resnetctl checkpoint`: a run's checkpoints, and whether they are intact."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from resnetctl.cli import console, help, options
from resnetctl.errors import EXIT_FAILURE, CheckpointError, printable

if TYPE_CHECKING:
    from resnetctl.runs.inventory import Found

app = typer.Typer(cls=help.Group, help="List, show and verify saved checkpoints.", no_args_is_help=True)

Which = Annotated[str | None, options.run_argument("A run's name or folder, or a checkpoint file.")]


@app.command("list")
def list_(which: Which = None, runs: options.RunsRoot = options.DEFAULT_RUNS, as_json: options.Json = False) -> None:
    """List the checkpoints of a run, newest first; the contents are not read (see verify).

    \b
    Examples:
      resnetctl checkpoint list
      resnetctl checkpoint list first
    """
    from resnetctl.runs.inventory import list_checkpoints

    _table("checkpoint list", list_checkpoints(runs, which), as_json)


@app.command("verify")
def verify(which: Which = None, runs: options.RunsRoot = options.DEFAULT_RUNS, as_json: options.Json = False) -> None:
    """Read every byte of a run's checkpoints and compare it with the commit records.

    \b
    Examples:
      resnetctl checkpoint verify first
    """
    from resnetctl.runs.inventory import list_checkpoints

    found = list_checkpoints(runs, which, contents=True)
    _table("checkpoint verify", found, as_json)
    damaged = [f for f in found if f.problem]
    if damaged:
        console.show_error(
            CheckpointError(
                f"{len(damaged)} of {len(found)} checkpoints cannot be used",
                hint="train --resume and eval use the newest intact one",
            )
        )
        raise typer.Exit(EXIT_FAILURE)


@app.command("show")
def show(which: Which = None, runs: options.RunsRoot = options.DEFAULT_RUNS, as_json: options.Json = False) -> None:
    """Show the contents of one checkpoint: the newest of a run, or a file.

    \b
    Examples:
      resnetctl checkpoint show
      resnetctl checkpoint show first --json
    """
    from resnetctl.runs.inventory import list_checkpoints

    found = list_checkpoints(runs, which)
    newest = next((f for f in found if f.metadata is not None), None)
    if newest is None or newest.metadata is None:
        raise CheckpointError(f"{found[0].path.name}: {found[0].problem}", hint="resnetctl checkpoint list shows all")
    if as_json:
        console.print_document("checkpoint show", {**_facts(newest), "metadata": newest.metadata.to_json()})
        return
    m = newest.metadata
    last, best = m.history[-1] if m.history else None, m.best
    rows = [
        ("file", newest.path),
        ("state", newest.problem or "ok (its contents were not read: resnetctl checkpoint verify)"),
        ("size", console.size(newest.size)),
        ("sha256", newest.sha256 or "-"),
        ("step", f"{m.step:,} of {m.steps:,}"),
        ("epoch", f"{m.epoch:.2f} of {m.recipe.train.epochs}"),
        ("model", f"{m.recipe.model.arch}, {len(m.classes):,} classes"),
        ("recipe", m.recipe.name),
        ("top-1, top-5", f"{last.top1:.2f} %, {last.top5:.2f} % at step {last.step:,}" if last else "not measured"),
        ("best top-1", f"{best.top1:.2f} % at step {best.step:,}" if best else "not measured"),
        *((f"{k}", v) for k, v in m.environment.items()),
    ]
    console.table(("", ""), [(k, str(v)) for k, v in rows])


def _facts(f: "Found") -> dict[str, Any]:
    m = f.metadata
    last = m.history[-1] if m and m.history and m.history[-1].step == m.step else None
    return {
        "checkpoint": str(f.path),
        "step": f.step,
        "epoch": m.epoch if m else None,
        "top1": last.top1 if last else None,
        "top5": last.top5 if last else None,
        "recipe": m.recipe.name if m else None,
        "bytes": f.size,
        "sha256": f.sha256,
        "is_best": f.best,
        "ok": f.problem is None,
        "problem": f.problem,
    }


def _table(kind: str, found: "list[Found]", as_json: bool) -> None:
    facts = [_facts(f) for f in found]
    if as_json:
        console.print_document(kind, {"ok": all(fact["ok"] for fact in facts), "checkpoints": facts})
        return
    rows = [
        (
            fact["step"] if fact["step"] is not None else Path(fact["checkpoint"]).name,
            f"{fact['epoch']:.2f}" if fact["epoch"] is not None else "-",
            f"{fact['top1']:.2f} %" if fact["top1"] is not None else "-",
            f"{fact['top5']:.2f} %" if fact["top5"] is not None else "-",
            console.size(fact["bytes"]),
            fact["problem"] or ("ok, best" if fact["is_best"] else "ok"),
        )
        for fact in facts
    ]
    recipes = sorted({fact["recipe"] for fact in facts if fact["recipe"]})
    title = f"{printable(found[0].path.parent)}, recipe {', '.join(map(printable, recipes)) or 'unknown'}"
    console.table(("step", "epoch", "top-1", "top-5", "size", "state"), rows, title=title)
