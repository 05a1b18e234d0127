"""`resnetctl verify`."""

import os
from typing import TYPE_CHECKING, Any

import typer

from resnetctl.cli import console, options
from resnetctl.errors import EXIT_DATA, printable

if TYPE_CHECKING:
    from resnetctl.data.verify import Report

_SHOWN = 20  # bad images in the table; --json has them all


def verify(
    data: options.DataRoot = options.DEFAULT_DATA,
    workers: options.Workers = None,
    as_json: options.Json = False,
) -> None:
    """Check the data set: counts, classes, the order of the labels, and that every image decodes."""
    from resnetctl.data import verify as data_verify

    workers = len(os.sched_getaffinity(0)) if workers is None else workers
    with console.progress() as progress:
        report = data_verify.verify(data, workers=workers, progress=progress)
    if as_json:
        console.print_json(_document(report))
    else:
        _show(report)
    if not report.ok:
        raise typer.Exit(EXIT_DATA)


def _show(report: "Report") -> None:
    rows = [("ok" if check.ok else "BAD", check.name, check.detail) for check in report.checks]
    rows += [("note", "images", f"{count:,} {what}") for what, count in sorted(report.notes.items())]
    rows += [("note", "prepare", remark) for remark in report.remarks]
    console.table(("", "check", "found"), rows)
    if report.bad:
        console.table(("split", "bad image", "why"), [(b.split, b.name, b.reason) for b in report.bad[:_SHOWN]])
        if len(report.bad) > _SHOWN:
            console.notice(f"{len(report.bad) - _SHOWN:,} more bad images: resnetctl verify --json lists them all")
    speed = report.images / max(report.seconds, 1e-9)
    verdict = "is in order" if report.ok else "is not in order"
    console.notice(
        f"{printable(report.dataset.name)} {verdict}; {report.images:,} images in {console.duration(report.seconds)} "
        f"({speed:,.0f} img/s)"
    )


def _document(report: "Report") -> dict[str, Any]:
    return {
        "ok": report.ok,
        "name": report.dataset.name,
        "source": report.dataset.source,
        "incomplete": report.dataset.incomplete,
        "images": report.images,
        "checks": [check._asdict() for check in report.checks],
        "bad": [{k: printable(v) for k, v in bad._asdict().items()} for bad in report.bad],
        "notes": report.notes,
        "remarks": report.remarks,
        "seconds": round(report.seconds, 3),
    }
