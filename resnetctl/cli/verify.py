"""`resnetctl verify`."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from resnetctl.cli import console, options
from resnetctl.errors import EXIT_DATA, UsageError, printable
from resnetctl.hardware import usable_cores

if TYPE_CHECKING:
    from resnetctl.data.verify import Report

_SHOWN = 20  # bad images in the table; --json has them all


def verify(
    data: options.DataRoot = options.DEFAULT_DATA,
    archives: Annotated[
        bool, typer.Option("--archives", help="Also read the archives once, and compare their checksums.")
    ] = False,
    accept_archives: Annotated[
        bool, typer.Option("--accept-archives", help="With --archives: take those that differ as they are; recorded.")
    ] = False,
    accept: Annotated[
        bool, typer.Option("--accept", help="Take images that were changed, but decode, as they are now; recorded.")
    ] = False,
    sample: Annotated[
        int | None,
        typer.Option(
            "--sample", min=1, show_default="all", help="A quick look: decode N images of each split, keep nothing."
        ),
    ] = None,
    workers: options.Workers = None,
    as_json: options.Json = False,
) -> None:
    """Check the data set: counts, classes, the order of the labels, and that every image decodes.

    Bad images are put into quarantine, where train and eval leave them out; quarantine.jsonl in the data root lists
    them. The CRCs of all are recorded, and compared the next time.

    \b
    Examples:
      resnetctl verify
      resnetctl verify --sample 100
      resnetctl verify --archives
    """
    if accept_archives and not archives:
        raise UsageError("--accept-archives belongs to --archives", hint="add --archives")
    if accept and sample:
        raise UsageError("--accept records what it finds, and --sample keeps nothing", hint="leave out one of the two")
    from resnetctl.data import verify as data_verify

    workers = usable_cores() if workers is None else workers
    with console.progress() as progress:
        report = data_verify.verify(
            data,
            workers=workers,
            archives=archives,
            accept_archives=accept_archives,
            accept_changed=accept,
            sample=sample,
            progress=progress,
        )
    if as_json:
        console.print_document("verify", _document(report))
    else:
        _show(report)
    if not report.ok:
        raise typer.Exit(EXIT_DATA)


def _show(report: "Report") -> None:
    rows = [("ok" if check.ok else "BAD", check.name, check.detail) for check in report.checks]
    rows += [("note", "images", f"{count:,} {what}") for what, count in sorted(report.notes.items())]
    rows += [("note", "data set", remark) for remark in report.remarks]
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
        "data": str(report.dataset.root),
        "ok": report.ok,
        "name": report.dataset.name,
        "source": report.dataset.source,
        "incomplete": report.dataset.incomplete,
        "images": report.images,
        "checks": [check._asdict() for check in report.checks],
        "bad": [{k: printable(v) for k, v in vars(bad).items()} for bad in report.bad],
        "unusual": report.notes,
        "quarantined": sum(report.dataset.quarantined.values()),
        "notes": list(report.remarks),
        "seconds": round(report.seconds, 3),
    }
