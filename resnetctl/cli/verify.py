"""`resnetctl verify`."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from resnetctl.cli import console, options
from resnetctl.errors import EXIT_DATA, UsageError, counted, printable
from resnetctl.hardware import usable_cores

if TYPE_CHECKING:
    from resnetctl.data.duplicates import Duplicates
    from resnetctl.data.verify import Report

_SHOWN = 20  # bad images in the table; --json has them all


def verify(
    data: options.DataRoot = options.DEFAULT_DATA,
    archives: Annotated[bool, typer.Option("--archives", help="Also check the archives' checksums.")] = False,
    accept_archives: Annotated[
        bool, typer.Option("--accept-archives", help="With --archives: accept archives that differ; this is recorded.")
    ] = False,
    accept: Annotated[
        bool, typer.Option("--accept", help="Accept images that changed but still decode; this is recorded.")
    ] = False,
    sample: Annotated[
        int | None,
        typer.Option(
            "--sample", min=1, show_default="all", help="Quick check: decode N images of each split, record nothing."
        ),
    ] = None,
    near: Annotated[
        bool,
        typer.Option(
            "--near",
            help="Also report images of different splits or classes that look alike, by perceptual hash.",
        ),
    ] = False,
    workers: options.Workers = None,
    as_json: options.Json = False,
) -> None:
    """Check the data set: counts, classes, the order of the labels, and that every image decodes.

    Bad images are quarantined: train and eval skip them, and quarantine.jsonl in the data root lists them. CRCs are
    recorded, and compared the next time. Images that are in both train and val, or in two classes, are reported, but
    are not errors, since ImageNet has some.

    \b
    Examples:
      resnetctl verify
      resnetctl verify --sample 100
      resnetctl verify --archives
      resnetctl verify --near
    """
    if accept_archives and not archives:
        raise UsageError("--accept-archives belongs to --archives", hint="add --archives")
    if accept and sample:
        raise UsageError(
            "--accept records what it finds, and --sample records nothing", hint="leave out one of the two"
        )
    if near and sample:
        raise UsageError("--near looks at all images, and --sample at a few", hint="leave out one of the two")
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
            near=near,
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
    if report.duplicates:
        _show_duplicates(report)
    speed = report.images / max(report.seconds, 1e-9)
    verdict = "is in order" if report.ok else "is not in order"
    console.notice(
        f"{printable(report.dataset.name)} {verdict}; {report.images:,} images in {console.duration(report.seconds)} "
        f"({speed:,.0f} img/s)"
    )


def _show_duplicates(report: "Report") -> None:
    rows = []
    for group in report.duplicates[:_SHOWN]:
        where = ["train and val"] * group.in_both_splits + ["two classes"] * group.in_two_classes
        what = "same bytes" if group.same_bytes else "look alike"
        for n, (split, name) in enumerate(group.images[:_SHOWN]):
            rows.append((split, name, "" if n else f"{what}, in {' and in '.join(where)}"))
        if len(group.images) > _SHOWN:
            rows.append(("", f"and {len(group.images) - _SHOWN:,} more", ""))
    console.table(("split", "image that is there twice", ""), rows)
    if len(report.duplicates) > _SHOWN:
        left = len(report.duplicates) - _SHOWN
        console.notice(f"{left:,} more groups of such images: resnetctl verify --json lists them all")
    leaks = [group.same_bytes for group in report.duplicates if group.in_both_splits]
    if any(leaks):
        console.warn(
            f"{counted(sum(leaks), 'image')} in both train and val: a model learns them by heart, and top-1 is too high"
        )
    if not all(leaks):
        number = len(leaks) - sum(leaks)
        console.notice(f"{counted(number, 'group')} of train and val images look alike: are they the same?")


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
        "duplicates": [_duplicates(group) for group in report.duplicates],
        "unusual": report.notes,
        "quarantined": sum(report.dataset.quarantined.values()),
        "notes": list(report.remarks),
        "seconds": round(report.seconds, 3),
    }


def _duplicates(group: "Duplicates") -> dict[str, Any]:
    images = [{"split": split, "name": printable(name)} for split, name in group.images]
    return {
        "same_bytes": group.same_bytes,
        "in_both_splits": group.in_both_splits,
        "in_two_classes": group.in_two_classes,
        "images": images,
    }
