"""The shards that `prepare --pack` wrote, and those that were made of a source which cannot be read in place."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from resnetctl.data.index import SPLITS, Index, Record
from resnetctl.data.sources import Source
from resnetctl.errors import DataError, printable
from resnetctl.progress import Progress

FOLDER = "shards"  # inside the data root
PACK_FILE = "pack.json"
FORMAT = 1


def recognise(path: Path) -> bool:
    """Whether `path` is the folder of shards, or holds it."""
    return (path / PACK_FILE).is_file() or (path / FOLDER / PACK_FILE).is_file()


def open_source(path: Path, data_root: Path, kind: str, progress: Progress) -> Source:
    """What `pack.json` says of the shards at or in `path`."""
    folder = path if (path / PACK_FILE).is_file() else path / FOLDER
    if not (folder / PACK_FILE).is_file():
        raise DataError(f"{printable(path)} holds no packed shards", hint="prepare SOURCE --pack makes them")
    content = read_pack_file(folder)
    try:
        shards = {str(split): len(origins) for split, origins in content["shards"].items()}
        if not shards or not set(shards) <= set(SPLITS):
            raise ValueError("its splits are not train and val")
        classes = tuple(map(str, content["classes"]))
        source = Source(
            name=str(content["name"]),
            root=folder.parent,
            classes=classes,
            class_names=tuple(map(str, content["class_names"])),
            splits={
                split: partial(_records, folder, split, shards[split], classes) for split in SPLITS if split in shards
            },
            recipe=_text(content["recipe"]),
            published=bool(content["published"]),
            notes=list(map(str, content["notes"])),
        )
        if len(source.class_names) != len(classes):
            raise ValueError("class names do not match classes")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{printable(folder / PACK_FILE)} is damaged: {printable(error)}", hint="pack again") from error
    for split, count in shards.items():
        source.checksums.update(_checksums(folder, split, count))
    return source


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


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
            raise DataError(f"{printable(index.path)} has other classes than {PACK_FILE}", hint="pack again")
        container = f"{folder.name}/{split}-{number:05d}.tar"
        size = (folder / f"{split}-{number:05d}.tar").stat().st_size
        for record in index:
            if record.offset + record.length > size:
                raise DataError(f"{printable(folder.parent / container)} was cut short", hint="pack again")
            yield record._replace(container=container)
        progress(f"indexing {split}", number + 1, shards)


def read_pack_file(folder: Path) -> dict[str, Any]:
    """What `pack.json` says. Raises DataError where it is missing or damaged."""
    path = folder / PACK_FILE
    try:
        content = json.loads(path.read_bytes())
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise ValueError("another format version")
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{printable(path)} cannot be read: {printable(error)}", hint="pack again") from error
    return content


def index_of_shard(tar: Path) -> Path:
    """Where the index of the shard at `tar` lies."""
    return tar.with_suffix(".index.safetensors")


def shard_index(folder: Path, split: str, number: int) -> Index:
    """The index of a shard. Raises DataError where the shard is not there."""
    path = folder / f"{split}-{number:05d}.tar"
    if not path.is_file() or not index_of_shard(path).is_file():
        raise DataError(
            f"{printable(path)} is missing: packing was interrupted, or a file was removed",
            hint="run the same resnetctl prepare SOURCE --pack again; it goes on where it stopped",
        )
    return Index(index_of_shard(path))
