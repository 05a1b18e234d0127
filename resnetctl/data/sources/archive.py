"""A .zip or .tar of class folders, read in place: with or without train/ and val/, and with or without a folder around.

Classes, names and labels are the same as for the unpacked folder.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from resnetctl.data import imagenet
from resnetctl.data.archives.reader import open_file
from resnetctl.data.archives.tar import tar_members
from resnetctl.data.archives.zip import zip_names
from resnetctl.data.index import Record
from resnetctl.data.sources import Source
from resnetctl.data.sources.class_folders import check_classes, is_hidden, is_image, skipped_notes, split_folders
from resnetctl.data.sources.folder import scan
from resnetctl.data.sources.records import archive_records
from resnetctl.errors import DataError, printable
from resnetctl.progress import Progress

SUFFIXES = (".zip", ".tar")
_FORM = "the archive needs a folder for each class, or train/<class>/ and val/<class>/"


def recognise(path: Path) -> bool:
    """Whether `path` is a .zip or .tar, or a folder with just one of them."""
    return _find(path) is not None


def _find(path: Path) -> Path | None:
    if not path.is_dir():
        return path if path.is_file() and path.name.lower().endswith(SUFFIXES) else None
    found = [e for e in scan(path) if e.name.lower().endswith(SUFFIXES) and not is_hidden(e.name) and e.is_file()]
    return Path(found[0].path) if len(found) == 1 else None


@dataclass(frozen=True, kw_only=True)
class _Layout:
    """The roles of an archive's folders."""

    above: str
    """The common prefix of all paths: `photos/`, or nothing."""
    folders: dict[str, str]
    """Split to its folder; "" for train if there are only class folders."""

    def place(self, name: str) -> tuple[str, str] | None:
        """Split of a member, and its path from the class folder on; None for one outside the class folders."""
        if not name.startswith(self.above) or any(map(is_hidden, name.split("/")[:-1])):
            return None
        inside = name[len(self.above) :]
        for split, folder in self.folders.items():
            below = f"{folder}/" if folder else ""
            if inside.startswith(below) and "/" in inside[len(below) :]:
                return split, inside[len(below) :]
        return None


def open_source(path: Path, data_root: Path, kind: str, progress: Progress) -> Source:
    """The classes of the archive at or in `path`, from the folders that its members lie in."""
    archive = _find(path)
    if archive is None:
        raise DataError(
            f"{printable(path)} is neither a .zip or .tar nor a folder with exactly one", hint="give the archive itself"
        )
    notes: list[str] = []
    seen = _look_through(archive)
    layout = _layout(archive, seen.with_images, notes)
    classes: dict[str, set[str]] = {split: set() for split in layout.folders}
    for folder in seen.folders:
        if place := layout.place(f"{folder}/"):
            classes[place[0]].add(place[1].partition("/")[0])
    labels = check_classes(classes, layout.folders, archive.name)
    if layout.folders["train"] == "" and len(labels) < 2:
        raise DataError(f"{printable(archive.name)} has one class folder, {printable(labels[0])}", hint=_FORM)
    notes += skipped_notes([name for name in seen.skipped if layout.place(name)])
    return Source(
        name=imagenet.NAME if labels == imagenet.wnids() else printable(archive.stem),
        root=archive.parent,
        classes=labels,
        class_names=imagenet.names_of(labels),
        splits={split: partial(_records, archive, layout, split, labels) for split in layout.folders},
        published=imagenet.meant_to_be_imagenet(labels),
        notes=notes,
    )


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """An archive's visible content."""

    folders: set[str]
    """The folders that contain files."""
    with_images: set[str]
    """The folders that contain images."""
    skipped: list[str]
    """Files that are not images."""


def _look_through(archive: Path) -> _Seen:
    seen = _Seen(folders=set(), with_images=set(), skipped=[])
    for name in _names(archive):
        folder, _, file = name.rpartition("/")
        if not folder or any(map(is_hidden, folder.split("/"))):
            continue
        seen.folders.add(folder)
        if is_image(file):
            seen.with_images.add(folder)
        else:
            seen.skipped.append(name)
    return seen


def _names(archive: Path) -> Iterator[str]:
    """The names of all files, as paths without `./`."""
    if archive.suffix.lower() == ".zip":
        yield from map(os.path.normpath, zip_names(archive))
    else:
        with open_file(archive) as (read, size):
            for member in tar_members(read, 0, size, archive.name, folders=True):
                yield os.path.normpath(member.name)


def _layout(archive: Path, folders: set[str], notes: list[str]) -> _Layout:
    """The splits' folders, judging by the `folders` with images."""
    if not folders:
        raise DataError(f"{printable(archive.name)} has no folders with images", hint=_FORM)
    above, tops = "", _tops(folders)
    if len(tops) == 1 and "train" not in tops:
        above = f"{tops.pop()}/"
        tops = _tops(folder[len(above) :] for folder in folders if folder.startswith(above))
    if "train" in tops:
        return _Layout(above=above, folders=split_folders(tops, archive.name, notes))
    return _Layout(above=above, folders={"train": ""})


def _tops(folders: Iterable[str]) -> set[str]:
    return {folder.partition("/")[0] for folder in folders}


def _records(
    archive: Path, layout: _Layout, split: str, classes: tuple[str, ...], progress: Progress
) -> Iterator[Record]:
    label_of = {name: label for label, name in enumerate(classes)}

    def place(path: str) -> tuple[str, int] | None:
        placed = layout.place(path) if is_image(path.rpartition("/")[2]) else None
        if placed is None or placed[0] != split:
            return None
        return placed[1], label_of[placed[1].partition("/")[0]]

    return archive_records(archive, split, place, progress)
