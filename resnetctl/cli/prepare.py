"""`resnetctl prepare`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from resnetctl.cli import console, options
from resnetctl.errors import UsageError, did_you_mean, printable

if TYPE_CHECKING:
    from resnetctl.data.prepare import Prepared


def _kinds(incomplete: str) -> list[tuple[str, str]]:
    from resnetctl.data.sources import SOURCES

    return [(kind, what) for kind, what in SOURCES.items() if kind.startswith(incomplete)]


def prepare(
    source: Annotated[
        Path | None,
        typer.Argument(
            metavar="[SOURCE]",
            show_default=False,
            help="Folder that holds the images; default: the data root.",
        ),
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            "--source",
            metavar="KIND",
            autocompletion=_kinds,
            show_default="what is recognised",
            help="What SOURCE is: official, folder or sample (which needs no SOURCE).",
        ),
    ] = None,
    data: options.DataRoot = options.DEFAULT_DATA,
    allow_incomplete: Annotated[
        bool, typer.Option("--allow-incomplete", help="Take a data set with missing images or classes, and record it.")
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Make a data set ready to train: index what SOURCE holds, in place, without unpacking or copying it."""
    from resnetctl.data.sources import SOURCES

    if kind is not None and kind not in SOURCES:
        close = did_you_mean(kind, list(SOURCES))
        hint = f"did you mean {close}?" if close else f"one of: {', '.join(SOURCES)}"
        raise UsageError(f"there is no source called {printable(kind)!r}", hint=hint)
    from resnetctl.data import prepare as data_prepare

    with console.progress() as progress:
        done = data_prepare.prepare(data, source, kind, allow_incomplete=allow_incomplete, progress=progress)
    for text in done.notices:
        console.notice(f"note: {text}")
    if done.dataset.incomplete:
        console.warn(f"the data set is not whole: {done.dataset.incomplete}")
    if as_json:
        console.print_json(_document(done))
    else:
        rows = [
            (s.split, s.images, s.classes, done.dataset.source, console.size(s.bytes), printable(done.root))
            for s in done.splits
        ]
        console.table(("split", "images", "classes", "source", "size", "images in"), rows)
    elsewhere = "" if data == options.DEFAULT_DATA else f" --data {printable(data)}"
    console.notice(f"{printable(done.dataset.name)} is ready after {console.duration(done.seconds)}; next:")
    console.notice(f"    resnetctl train --epochs 10{elsewhere}")


def _document(done: "Prepared") -> dict[str, Any]:
    dataset = done.dataset
    return {
        "data": str(dataset.root),
        "name": dataset.name,
        "source": dataset.source,
        "root": str(done.root),
        "recipe": dataset.recipe,
        "classes": dataset.classes,
        "splits": {
            s.split: {
                "images": s.images,
                "classes": s.classes,
                "bytes": s.bytes,
                "fingerprint": dataset.fingerprints[s.split],
            }
            for s in done.splits
        },
        "incomplete": dataset.incomplete,
        "notes": list(done.notices),
        "seconds": round(done.seconds, 3),
    }
