"""`resnetctl prepare`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from resnetctl.cli import console, options
from resnetctl.data.sources import SOURCES
from resnetctl.errors import UsageError, did_you_mean, printable
from resnetctl.hardware import usable_cores

DEFAULT_SHARD_SIZE = 5000

if TYPE_CHECKING:
    from resnetctl.data.prepare import Prepared


def _kinds(incomplete: str) -> list[tuple[str, str]]:
    return [(kind, what) for kind, what in SOURCES.items() if kind.startswith(incomplete)]


def prepare(
    source: Annotated[
        Path | None,
        typer.Argument(
            metavar="[SOURCE]",
            show_default=False,
            callback=options.with_home,
            help="Folder or archive with the images; default: the data root.",
        ),
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            "--source",
            metavar="KIND",
            autocompletion=_kinds,
            show_default="what is recognised",
            help=f"What SOURCE is: {', '.join(kind for kind in SOURCES if '-' not in kind)}. "
            "sample needs no SOURCE; imagenette and imagewoof, also with -320 or -160 appended, are downloaded.",
        ),
    ] = None,
    data: options.DataRoot = options.DEFAULT_DATA,
    allow_incomplete: Annotated[
        bool, typer.Option("--allow-incomplete", help="Accept missing images or classes, and record that.")
    ] = False,
    val_fraction: Annotated[
        float | None,
        typer.Option(
            "--val-fraction",
            min=0.0,
            max=0.5,
            show_default=False,
            help="Without a val split, set aside this fraction of each class as val, such as 0.1.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of --val-fraction.")] = 0,
    pack: Annotated[
        bool, typer.Option("--pack", help="Copy the images into tar shards, which webdataset and DALI read too.")
    ] = False,
    max_side: Annotated[
        int | None,
        typer.Option(
            "--max-side",
            min=8,
            show_default="the original files",
            help="With --pack: re-encode, and shrink images whose longer side exceeds this many pixels.",
        ),
    ] = None,
    quality: Annotated[
        int | None,
        typer.Option(
            "--quality",
            min=1,
            max=100,
            show_default="90 with --max-side",
            help="With --pack: re-encode as JPEGs of this quality.",
        ),
    ] = None,
    shard_size: Annotated[
        int, typer.Option("--shard-size", min=1, help="With --pack: images per shard.")
    ] = DEFAULT_SHARD_SIZE,
    extract: Annotated[
        bool, typer.Option("--extract", help="Copy the images into train/<class>/ and val/<class>/ in the data root.")
    ] = False,
    release_quarantined: Annotated[
        bool,
        typer.Option("--release-quarantined", help="Release the images that verify quarantined."),
    ] = False,
    workers: options.Workers = None,
    as_json: options.Json = False,
) -> None:
    """Make a data set ready to train: index what SOURCE holds, in place, without unpacking or copying it.

    Only sources that cannot be read in place are copied into the data root, once: parquet files and .tar.gz archives.

    \b
    Examples:
      resnetctl prepare --source sample
      resnetctl prepare /disk/imagenet
      resnetctl prepare pets/ --val-fraction 0.1
      resnetctl prepare --source imagenette-160
      resnetctl prepare /disk/imagenet --pack --max-side 500 --data /ssd/imagenet
    """
    if kind is not None and kind not in SOURCES:
        close = did_you_mean(kind, list(SOURCES))
        hint = f"did you mean {close}?" if close else f"one of: {', '.join(SOURCES)}"
        raise UsageError(f"unknown source {printable(kind)!r}", hint=hint)
    if pack and extract:
        raise UsageError("--pack and --extract cannot be combined", hint="choose one")
    if not pack and (max_side or quality or shard_size != DEFAULT_SHARD_SIZE):
        raise UsageError("--max-side, --quality and --shard-size need --pack", hint="add --pack")
    if val_fraction == 0:
        raise UsageError("--val-fraction 0 would leave val empty", hint="0.1 sets aside a tenth")
    from resnetctl.data import prepare as data_prepare
    from resnetctl.data.copies.from_source import Copying
    from resnetctl.data.copies.pack import Packing

    packing = Packing(max_side=max_side, quality=quality, shard_size=shard_size) if pack else None
    with console.progress() as progress:
        done = data_prepare.prepare(
            data,
            source,
            kind,
            allow_incomplete=allow_incomplete,
            split=None if val_fraction is None else data_prepare.Split(fraction=val_fraction, seed=seed),
            copying=Copying(packing=packing, extract=extract, workers=usable_cores() if workers is None else workers),
            release_quarantined=release_quarantined,
            progress=progress,
        )
    for text in done.notices:
        console.notice(f"note: {text}")
    if done.dataset.incomplete:
        console.warn(f"the data set is incomplete: {done.dataset.incomplete}")
    if as_json:
        console.print_document("prepare", _document(done))
    else:
        rows = [
            (s.split, s.images, s.classes, done.dataset.source, console.size(s.bytes), printable(done.root))
            for s in done.splits
        ]
        console.table(("split", "images", "classes", "source", "size", "images in"), rows)
    console.notice(f"{printable(done.dataset.name)} is ready after {console.duration(done.seconds)}; next:")
    command = "train --epochs 10" if done.dataset.train_images else "eval CHECKPOINT"
    console.notice(f"    resnetctl {command}{options.again(data=data)}")


def _document(done: "Prepared") -> dict[str, Any]:
    dataset = done.dataset
    return {
        "data": str(dataset.root),
        "name": dataset.name,
        "source": dataset.source,
        "images_root": str(done.root),
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
