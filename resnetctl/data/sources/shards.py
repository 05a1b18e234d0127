"""Shards written by `prepare --pack`, or made from a source that cannot be read in place."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from resnetctl.data.index import SPLITS, Index, Record
from resnetctl.data.sources import Source
from resnetctl.errors import DataError, cannot_read, printable
from resnetctl.progress import Progress
from resnetctl.typed_json import decode, parse

FOLDER = "shards"  # inside the data root
PACK_FILE = "pack.json"
FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class PackFile:
    """The content of `pack.json`: the shards' data set, and how and from what they were made."""

    format: int = FORMAT
    name: str
    classes: tuple[str, ...]
    class_names: tuple[str, ...]
    recipe: str | None
    published: bool
    notes: tuple[str, ...]
    packing: dict[str, int | None]
    shards: dict[str, tuple[str, ...]]
    """Split to the origin of each shard's images: their index's fingerprint and the range in it."""

    def __post_init__(self) -> None:
        if not self.shards or not set(self.shards) <= set(SPLITS):
            raise ValueError("its splits are not train and val")
        if len(self.class_names) != len(self.classes):
            raise ValueError("class names do not match classes")


def recognise(path: Path) -> bool:
    """Whether `path` is the folder of shards, or contains it."""
    return (path / PACK_FILE).is_file() or (path / FOLDER / PACK_FILE).is_file()


def open_source(path: Path, data_root: Path, kind: str, progress: Progress) -> Source:
    """Open the shards at or in `path` by their `pack.json`."""
    folder = path if (path / PACK_FILE).is_file() else path / FOLDER
    if not (folder / PACK_FILE).is_file():
        raise DataError(f"{printable(path)} holds no packed shards", hint="prepare SOURCE --pack creates them")
    content = read_pack_file(folder)
    source = Source(
        name=content.name,
        root=folder.parent,
        classes=content.classes,
        class_names=content.class_names,
        splits={
            split: partial(_records, folder, split, len(content.shards[split]), content.classes)
            for split in SPLITS
            if split in content.shards
        },
        recipe=content.recipe,
        published=content.published,
        notes=list(content.notes),
    )
    for split, origins in content.shards.items():
        source.checksums.update(_checksums(folder, split, len(origins)))
    return source


def _checksums(folder: Path, split: str, count: int) -> dict[str, str]:
    found = {}
    for number in range(count):
        name = f"{split}-{number:05d}.tar"
        path = folder / f"{name}.sha256"
        if path.is_file() and path.stat().st_size < 1000:
            found[f"{folder.name}/{name}"] = "sha256:" + path.read_text(errors="replace").partition(" ")[0]
    return found


def _records(folder: Path, split: str, shards: int, classes: tuple[str, ...], progress: Progress) -> Iterator[Record]:
    for number in range(shards):
        index = shard_index(folder, split, number)
        if index.info.classes != classes:
            raise DataError(f"{printable(index.path)} and {PACK_FILE} have different classes", hint="pack again")
        container = f"{folder.name}/{split}-{number:05d}.tar"
        size = (folder / f"{split}-{number:05d}.tar").stat().st_size
        for record in index:
            if record.offset + record.length > size:
                raise DataError(f"{printable(folder.parent / container)} was cut short", hint="pack again")
            yield record._replace(container=container)
        progress(f"indexing {split}", number + 1, shards)


def read_pack_file(folder: Path) -> PackFile:
    """Read `pack.json`. Raises DataError if it is missing or damaged."""
    path = folder / PACK_FILE
    try:
        content = parse(path.read_bytes(), "it")
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise ValueError("another format version")
        return decode(PackFile, content, "it")
    except OSError as error:
        raise cannot_read(path, error) from error
    except ValueError as error:
        raise DataError(f"{printable(path)} is damaged: {printable(error)}", hint="pack again") from error


def index_of_shard(tar: Path) -> Path:
    """The path of the index of the shard at `tar`."""
    return tar.with_suffix(".index.safetensors")


def shard_index(folder: Path, split: str, number: int) -> Index:
    """The index of a shard. Raises DataError if the shard is missing."""
    path = folder / f"{split}-{number:05d}.tar"
    if not path.is_file() or not index_of_shard(path).is_file():
        raise DataError(
            f"{printable(path)} is missing: packing was interrupted, or a file was removed",
            hint="run the same resnetctl prepare SOURCE --pack again; it picks up where it stopped",
        )
    return Index(index_of_shard(path))
