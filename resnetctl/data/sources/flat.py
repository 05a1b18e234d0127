"""A tree whose train/ has class folders and whose val/ has none: Kaggle's archive unpacked, or the val tar unpacked.

The val labels come from `LOC_val_solution.csv` or the devkit, beside or above the images, or else from our own table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

from resnetctl.data import imagenet
from resnetctl.data.imagenet import ground_truth
from resnetctl.data.index import Record
from resnetctl.data.sources import Source
from resnetctl.data.sources.folder import class_folders, image_records, scan
from resnetctl.data.sources.records import file_record
from resnetctl.errors import DataError, printable, some
from resnetctl.progress import Progress

_KAGGLE = ("ILSVRC", "Data", "CLS-LOC")
_SUFFIX = ".JPEG"


def recognise(path: Path) -> bool:
    """Whether `path`, or Kaggle's folders inside it, has train/ and a val/ of images without class folders."""
    return path.is_dir() and _images(path) is not None


def _images(path: Path) -> tuple[str, ...] | None:
    """The folders below `path` that contain train/ and val/."""
    for below in ((), _KAGGLE, _KAGGLE[1:], _KAGGLE[2:]):
        base = path.joinpath(*below)
        if (base / "train").is_dir() and (base / "val").is_dir():
            entries = [e for e in scan(base / "val") if not e.name.startswith(".")]
            if any(e.name.endswith(_SUFFIX) for e in entries) and not any(e.is_dir() for e in entries):
                return below
    return None


def open_source(path: Path, data_root: Path, kind: str, progress: Progress) -> Source:
    """The classes are the folders in train/; the val labels are searched beside and above the images."""
    below = _images(path) if path.is_dir() else None
    if below is None:
        raise DataError(
            f"{printable(path)} has no train/ with class folders and val/ with {_SUFFIX} files",
            hint="give the folder that holds both, or ILSVRC/Data/CLS-LOC",
        )
    notes: list[str] = []
    base = path.joinpath(*below)
    classes = tuple(class_folders(base / "train", notes))
    if not classes:
        raise DataError(f"{printable(base / 'train')} has no class folders", hint="train/ needs a folder for each wnid")
    # if `path` is the folder of the images itself, Kaggle's lists are three levels up
    above = [base, *(path.joinpath(*below[:n]) for n in range(len(below)))]
    if path.resolve().parts[-len(_KAGGLE) :] == _KAGGLE:
        above.append(path.resolve().parents[2])
    labels = ground_truth.beside(above)
    unknown = sorted(set(labels.wnids.values()) - set(classes))
    if unknown and labels.note is None:
        raise DataError(
            f"the val labels name classes that are missing from train/: {some(unknown)}",
            hint="train/ needs the folders of all classes",
        )
    if labels.note:
        notes.append(labels.note)
    return Source(
        name=imagenet.NAME if classes == imagenet.wnids() else printable(path.resolve().name),
        root=path,
        classes=classes,
        class_names=imagenet.names_of(classes),
        splits={
            "train": partial(image_records, path, "/".join((*below, "train")), "train", classes, notes),
            "val": partial(_val_records, path, "/".join((*below, "val")), classes, labels.wnids),
        },
        expected=labels.expected(classes),
        published=imagenet.meant_to_be_imagenet(classes),
        notes=notes,
    )


def _val_records(
    root: Path, folder: str, classes: tuple[str, ...], wnids: Mapping[str, str], progress: Progress
) -> Iterator[Record]:
    label_of = {wnid: label for label, wnid in enumerate(classes)}
    names = sorted(e.name for e in scan(root / folder) if not e.name.startswith("."))
    for done, name in enumerate(names, 1):
        wnid = wnids.get(name.removesuffix(_SUFFIX))
        if wnid is None or not name.endswith(_SUFFIX) or wnid not in label_of:
            raise DataError(
                f"no label for {printable(name)} in {printable(root / folder)}",
                hint=f"put {ground_truth.SOLUTION} or the devkit, which give each image's class, beside val/",
            )
        yield file_record(root, f"{folder}/{name}", f"{wnid}/{name}", label_of[wnid])
        progress("indexing val", done, len(names))
