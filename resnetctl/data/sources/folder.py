"""Class folders, `train/<class>/**` and `val/<class>/**`: each image file is its own container."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path

from resnetctl.data import imagenet
from resnetctl.data.index import Record
from resnetctl.data.sources import Source
from resnetctl.data.sources.class_folders import check_classes, is_hidden, is_image, skipped_notes, split_folders
from resnetctl.data.sources.records import file_record
from resnetctl.errors import DataError, cannot_read, printable, some
from resnetctl.progress import Progress


def recognise(path: Path) -> bool:
    """Whether `path` has train/ with at least one folder in it, or only folders of images."""
    if (path / "train").is_dir():
        # images directly in val/ have no label here
        return any(entry.is_dir() for entry in scan(path / "train")) and not _is_flat(path / "val")
    return path.is_dir() and _is_train_itself(path)


def _is_flat(folder: Path) -> bool:
    """Whether it contains images and no folders."""
    entries = [entry for entry in scan(folder) if not is_hidden(entry.name)] if folder.is_dir() else []
    return any(is_image(e.name) for e in entries) and not any(e.is_dir() for e in entries)


def _is_train_itself(path: Path) -> bool:
    """Whether there are at least two visible folders, and each one's first files are images."""
    folders = _visible_folders(path)
    return len(folders) > 1 and all(_has_image(path / name) for name in folders)


def _has_image(folder: Path) -> bool:
    with os.scandir(folder) as entries:
        return any(is_image(e.name) and e.is_file() for e in islice(entries, 100))


def _visible_folders(folder: Path) -> list[str]:
    return sorted(entry.name for entry in scan(folder) if entry.is_dir() and not is_hidden(entry.name))


def open_source(path: Path, data_root: Path, kind: str, progress: Progress) -> Source:
    """The classes of the tree at `path`, from the names of the folders in train/."""
    notes: list[str] = []
    if (path / "train").is_dir():
        folders = split_folders(_visible_folders(path), str(path), notes)
    elif path.is_dir() and _is_train_itself(path):
        folders = {"train": ""}
    else:
        raise DataError(
            f"{printable(path)} has neither a train/ folder nor class folders of images",
            hint="put the class folders into train/ and val/ inside it",
        )
    found = {split: class_folders(path / folder, notes) for split, folder in folders.items()}
    classes = check_classes(found, folders, str(path))
    return Source(
        name=_name(path, classes),
        root=path,
        classes=classes,
        class_names=imagenet.names_of(classes),
        splits={split: partial(image_records, path, f, split, classes, notes) for split, f in folders.items()},
        published=imagenet.meant_to_be_imagenet(classes),
        notes=notes,
    )


def _name(path: Path, classes: tuple[str, ...]) -> str:
    return imagenet.NAME if classes == imagenet.wnids() else printable(path.resolve().name) or "images"


def class_folders(split: Path, notes: list[str]) -> list[str]:
    """Names of the class folders, sorted as Python sorts strings; links to folders count."""
    hidden = sorted(entry.name for entry in scan(split) if entry.is_dir() and is_hidden(entry.name))
    if hidden:
        notes.append(f"hidden folders are not classes: {some([f'{split.name}/{name}' for name in hidden])}")
    return _visible_folders(split)


def image_records(
    root: Path, folder: str, split: str, classes: tuple[str, ...], notes: list[str], progress: Progress
) -> Iterator[Record]:
    """The image files in the class folders of `root`/`folder`, where `folder` may be empty."""
    done, skipped = 0, []
    above = f"{folder}/" if folder else ""
    for label, name in enumerate(classes):
        if not (root / folder / name).is_dir():
            continue
        for relative in _files(root / folder / name, ""):
            if not is_image(relative.rpartition("/")[2]):
                skipped.append(f"{above}{name}/{relative}")
                continue
            yield file_record(root, f"{above}{name}/{relative}", f"{name}/{relative}", label)
            done += 1
            progress(f"indexing {split}", done, None)
    notes += skipped_notes(skipped)


def image_files(root: Path) -> Iterator[str]:
    """Paths below `root` of all files that would be indexed, in no particular order; no file is opened."""
    has_train = (root / "train").is_dir()
    for folder in split_folders(_visible_folders(root), str(root), []).values() if has_train else [""]:
        above = f"{folder}/" if folder else ""
        for name in _visible_folders(root / folder):
            yield from (f"{above}{name}/{relative}" for relative in images_below(root / folder / name))


def images_below(folder: Path) -> Iterator[str]:
    """Paths of all visible image files below `folder`, relative to it; no file is opened."""
    return (relative for relative in _files(folder, "") if is_image(relative.rpartition("/")[2]))


def _files(folder: Path, prefix: str, above: tuple[tuple[int, int], ...] = ()) -> Iterator[str]:
    """Paths of all files below `folder`, relative to it; links back to a parent folder are not followed."""
    status = folder.stat()
    here = (status.st_dev, status.st_ino)
    if here in above:
        return
    for entry in sorted(scan(folder), key=lambda e: e.name):
        if not entry.is_dir():
            yield prefix + entry.name
        elif not is_hidden(entry.name):
            yield from _files(Path(entry.path), f"{prefix}{entry.name}/", (*above, here))


def scan(folder: Path) -> list[os.DirEntry[str]]:
    """The entries of `folder`. Raises DataError if it cannot be read."""
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise cannot_read(folder, error) from error
