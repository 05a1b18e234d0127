"""From a source to a copy of it in the data root: packed shards, or class folders."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from resnetctl.data.copies.extract import extract
from resnetctl.data.copies.pack import Packing, check_room, pack, pieces_of
from resnetctl.data.index import SPLITS, Index, IndexInfo, index_path
from resnetctl.data.index_writer import IndexBuilder
from resnetctl.data.sources import Piece, Source, source_module
from resnetctl.data.sources.shards import FOLDER as SHARDS
from resnetctl.errors import DataError, UsageError, printable
from resnetctl.files import absolute, sweep_temporary_files
from resnetctl.progress import Progress

_WORK_FOLDER = ".copying"


@dataclass(frozen=True, kw_only=True)
class Copying:
    """How to copy the images, if they are not to be read in place."""

    packing: Packing | None = None
    """Pack them into shards this way."""
    extract: bool = False
    """Unpack them into class folders."""
    workers: int = 0
    """Number of processes; 0: only this one."""


def pack_pieces(data_root: Path, source: Source, copying: Copying, progress: Progress) -> tuple[Source, str, Copying]:
    """Copy a source that cannot be read in place into shards, which become the source."""
    packing = copying.packing or Packing()
    if not packing.re_encodes:
        check_room(data_root, _bytes_left(data_root, source))
    pack(data_root, source, source.pieces, packing, copying.workers, progress)
    packed = source_module("shards").open_source(data_root, data_root, "shards", progress)
    packed.missing.extend(source.missing)
    return packed, "shards", replace(copying, packing=None)


def _bytes_left(data_root: Path, source: Source) -> int:
    done = sum(path.stat().st_size for path in (data_root / SHARDS).glob("*.tar"))
    return max(0, sum(piece.bytes for pieces in source.pieces.values() for piece in pieces) - done)


def copy(
    data_root: Path,
    kind: str,
    source: Source,
    builders: dict[str, IndexBuilder],
    copying: Copying,
    progress: Progress,
) -> tuple[Source, str]:
    """Pack or unpack all samples into `data_root`; returns the resulting source and its kind."""
    folder = data_root / _WORK_FOLDER
    folder.mkdir(exist_ok=True)
    sweep_temporary_files(folder)
    indexes = {}
    for split, builder in builders.items():
        info = IndexInfo(
            split=split,
            source=kind,
            root=str(absolute(source.root)),
            classes=source.classes,
            class_names=source.class_names,
        )
        builder.write(index_path(folder, split), info)
        indexes[split] = Index(index_path(folder, split))
    if copying.packing:
        made = _packed(data_root, kind, source, indexes, copying, copying.packing, progress)
    else:
        made = _extracted(data_root, source, indexes, copying, progress)
    remove_leftovers(data_root)
    return made, "shards" if copying.packing else "folder"


def _packed(
    data_root: Path,
    kind: str,
    source: Source,
    indexes: dict[str, Index],
    copying: Copying,
    packing: Packing,
    progress: Progress,
) -> Source:
    if kind == "shards":
        raise UsageError("these are packed shards already", hint="give the images they were made from as SOURCE")
    pieces: dict[str, Sequence[Piece]] = {
        split: pieces_of(index, packing.shard_size) for split, index in indexes.items()
    }
    if not packing.re_encodes:
        check_room(data_root, _bytes_left(data_root, replace(source, pieces=pieces)))
    pack(data_root, source, pieces, packing, copying.workers, progress)
    return source_module("shards").open_source(data_root, data_root, "shards", progress)


def _extracted(
    data_root: Path, source: Source, indexes: dict[str, Index], copying: Copying, progress: Progress
) -> Source:
    if absolute(source.root) == absolute(data_root) and (data_root / "train").is_dir():
        raise UsageError("these are class folders already", hint="leave out --extract")
    extract(data_root, {split: index.path for split, index in indexes.items()}, copying.workers, progress)
    made = source_module("folder").open_source(data_root, data_root, "folder", progress)
    if made.classes != source.classes or set(made.splits) != set(indexes):
        raise DataError(
            f"{printable(data_root)} holds class folders that are not from this source",
            hint="move train/ and val/ away, or choose another data root with --data",
        )
    counts = {split: np.bincount(index.label, minlength=len(source.classes)) for split, index in indexes.items()}
    return replace(
        made,
        name=source.name,
        class_names=source.class_names,
        recipe=source.recipe,
        notes=source.notes,
        published=False,
        expected={split: count.tolist() for split, count in counts.items()},
    )


def remove_leftovers(data_root: Path) -> None:
    """Remove a copy's temporary indexes, including those of a killed one, under the data root's lock."""
    folder = data_root / _WORK_FOLDER
    if folder.is_dir() and not folder.is_symlink():
        for split in SPLITS:
            index_path(folder, split).unlink(missing_ok=True)
        sweep_temporary_files(folder)
        with contextlib.suppress(OSError):  # it holds files that are not ours
            folder.rmdir()
