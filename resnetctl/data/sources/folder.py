"""Class folders, `train/<class>/**` and `val/<class>/**`: each image file is a container of its own.

The classes, their order and the accepted suffixes are those of torchvision's ImageFolder, except that a hidden folder
(such as `.ipynb_checkpoints`) never becomes a class and hidden files (such as macOS' `._x.jpg`) are no images.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from resnetctl.data import imagenet
from resnetctl.data.header import image_size
from resnetctl.data.index import MAX_SAMPLE_BYTES, SPLITS, Record
from resnetctl.data.sources import SourceData
from resnetctl.errors import DataError, printable, some
from resnetctl.progress import Progress

SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
_HEAD_BYTES = 2048


def recognise(path: Path) -> bool:
    """Whether `path` has a train/ folder with at least one folder in it."""
    train = path / "train"
    return train.is_dir() and any(entry.is_dir() for entry in train.iterdir())


def open_source(path: Path, data_root: Path) -> SourceData:
    """The classes of the tree at `path`, from the names of the folders in train/."""
    if not (path / "train").is_dir():
        raise DataError(
            f"{printable(path)} has no train/ folder", hint="put the class folders into train/ and val/ inside it"
        )
    splits = [split for split in SPLITS if (path / split).is_dir()]
    notes: list[str] = []
    found = {split: _class_folders(path / split, notes) for split in splits}
    classes = tuple(found["train"])
    if not classes:
        raise DataError(f"{printable(path / 'train')} has no class folders", hint="one folder for each class, please")
    for split in splits[1:]:
        extra = sorted(set(found[split]) - set(classes))
        if extra:
            raise DataError(
                f"{split}/ has class folders that train/ has not: {some(extra)}",
                hint="the two need the same class folders, else a label would mean two things",
            )
    if len(splits) == 1:
        notes.append("there is no val/ folder beside train/: train can run, but eval has nothing to measure on")
    return SourceData(
        name=_name(path, classes),
        root=path,
        classes=classes,
        class_names=imagenet.names_of(classes),
        splits={split: partial(_records, path, split, classes, notes) for split in splits},
        published=imagenet.meant_to_be_imagenet(classes),
        notes=notes,
    )


def _name(path: Path, classes: tuple[str, ...]) -> str:
    return imagenet.NAME if classes == imagenet.wnids() else printable(path.resolve().name) or "images"


def _class_folders(split: Path, notes: list[str]) -> list[str]:
    """Names of the class folders, sorted as Python sorts strings; links to folders count."""
    names = sorted(entry.name for entry in _scan(split) if entry.is_dir())
    hidden = [name for name in names if name.startswith(".")]
    if hidden:
        notes.append(f"hidden folders are no classes: {some([f'{split.name}/{name}' for name in hidden])}")
    return [name for name in names if not name.startswith(".")]


def _records(
    root: Path, split: str, classes: tuple[str, ...], notes: list[str], progress: Progress
) -> Iterator[Record]:
    done, ignored = 0, []
    for label, name in enumerate(classes):
        if not (root / split / name).is_dir():
            continue
        for relative in _files(root / split / name, ""):
            file_name = relative.rpartition("/")[2]
            if file_name.startswith(".") or not file_name.lower().endswith(SUFFIXES):
                ignored.append(f"{split}/{name}/{relative}")
                continue
            yield _record(root, f"{split}/{name}/{relative}", f"{name}/{relative}", label)
            done += 1
            progress(f"indexing {split}", done, None)
    if ignored:
        notes.append(f"{len(ignored):,} files are no images by their names: {some(ignored)}")


def _files(folder: Path, prefix: str, above: tuple[tuple[int, int], ...] = ()) -> Iterator[str]:
    """Paths of all files below `folder`, relative to it; a link back to a folder above is followed no further."""
    status = folder.stat()
    here = (status.st_dev, status.st_ino)
    if here in above:
        return
    for entry in sorted(_scan(folder), key=lambda e: e.name):
        if not entry.is_dir():
            yield prefix + entry.name
        elif not entry.name.startswith("."):
            yield from _files(Path(entry.path), f"{prefix}{entry.name}/", (*above, here))


def _scan(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise DataError(f"cannot read {printable(folder)}: {error.strerror}", hint="mend its permissions") from error


def _record(root: Path, container: str, name: str, label: int) -> Record:
    try:
        fd = os.open(root / container, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            size = os.fstat(fd).st_size
            height, width = image_size(os.pread(fd, _HEAD_BYTES, 0), partial(os.pread, fd))
        finally:
            os.close(fd)
    except OSError as error:
        raise DataError(
            f"cannot read {printable(root / container)}: {error.strerror}", hint="mend the file, or remove it"
        ) from error
    if size > MAX_SAMPLE_BYTES:
        raise DataError(f"{printable(root / container)} has {size:,} bytes, which is no photograph")
    return Record(name, container, 0, size, label, height, width)
