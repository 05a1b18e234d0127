"""Kaggle's `imagenet-object-localization-challenge.zip`, indexed in place whether its members are stored or deflated.

In some years it held `imagenet_object_localization_patched2019.tar.gz` instead of the images; that file, inside the
zip or alone, is unpacked to a `.tar` once, and the tar is indexed. The val labels are in `LOC_val_solution.csv`, in the
zip or beside it.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

from resnetctl.data import imagenet
from resnetctl.data.archives.gunzip import gunzip, gunzip_file
from resnetctl.data.archives.zip import read_member, zip_members
from resnetctl.data.imagenet import ground_truth
from resnetctl.data.index import Record
from resnetctl.data.sources import Source
from resnetctl.data.sources.records import archive_records
from resnetctl.errors import DataError, printable
from resnetctl.progress import Progress

ZIP = "imagenet-object-localization-challenge.zip"
TAR = "imagenet_object_localization_patched2019.tar"
_NAMES = (ZIP, f"{TAR}.gz", TAR)
_IMAGES = "ILSVRC/Data/CLS-LOC/"
_TRAIN = re.compile(r"ILSVRC/Data/CLS-LOC/train/(n\d{8})/((n\d{8})_\d+\.JPEG)")
_VAL = re.compile(r"ILSVRC/Data/CLS-LOC/val/((ILSVRC2012_val_\d{8})\.JPEG)")
_ANY = re.compile(r"ILSVRC/Data/CLS-LOC/(train|val)/.*[^/]")
_MAX_NESTED_BYTES = 1 << 40


def recognise(path: Path) -> bool:
    """Whether `path` is one of Kaggle's archives, or a folder that holds one."""
    if path.is_file():
        return path.name in _NAMES or (path.suffix == ".zip" and zipfile.is_zipfile(path) and _holds_imagenet(path))
    return any((path / name).is_file() for name in _NAMES)


def _holds_imagenet(path: Path) -> bool:
    try:
        first = next(zip_members(path, lambda n: n.startswith("ILSVRC/") or n == f"{TAR}.gz", _MAX_NESTED_BYTES), None)
    except DataError:
        return False
    return first is not None


def open_source(path: Path, data_root: Path, kind: str, progress: Progress) -> Source:
    """The classes and the val labels, from the lists beside the images; a nested `.tar.gz` is unpacked first."""
    archive = path if path.is_file() else next((path / n for n in _NAMES if (path / n).is_file()), None)
    if archive is None:
        raise DataError(f"{printable(path)} has no {ZIP}", hint=imagenet.HOW_TO_GET)
    folders = [archive.parent, data_root]
    labels, classes = ground_truth.beside(folders), ground_truth.classes_beside(folders)
    if archive.suffix == ".zip":
        labels, classes, nested = _look_inside(archive, labels, classes)
        if nested:
            archive = _unpack_nested(archive, data_root, progress)
    elif archive.suffix == ".gz":
        target = data_root / TAR
        if not target.is_file():
            gunzip_file(archive, target, progress)
        archive = target
    return Source(
        name=imagenet.NAME if classes == imagenet.wnids() else printable(archive.stem),
        root=archive.parent,
        classes=classes,
        class_names=imagenet.names_of(classes),
        splits={split: partial(_records, archive, split, classes, labels.wnids) for split in ("train", "val")},
        expected=labels.expected(classes),
        published=imagenet.meant_to_be_imagenet(classes),
        notes=[labels.note] if labels.note else [],
    )


def _look_inside(
    archive: Path, labels: ground_truth.ValLabels, classes: tuple[str, ...]
) -> tuple[ground_truth.ValLabels, tuple[str, ...], bool]:
    """The lists in the zip, or those given, and whether the images are in a `.tar.gz` inside it."""
    nested = False

    def wanted(name: str) -> bool:
        return name.rpartition("/")[2] in (ground_truth.SOLUTION, ground_truth.SYNSETS, f"{TAR}.gz")

    for member in zip_members(archive, wanted, _MAX_NESTED_BYTES):
        what = f"{member.name} in {archive}"
        if member.name.endswith(f"{TAR}.gz"):
            nested = True
        elif member.size > ground_truth.MAX_TEXT_BYTES:
            raise DataError(f"{printable(what)} is far too long for a list of labels")
        elif member.name.endswith(ground_truth.SOLUTION):
            labels = ground_truth.from_solution(read_member(archive, member), what)
        else:
            classes = ground_truth.synsets(read_member(archive, member), what)
    return labels, classes, nested


def _unpack_nested(archive: Path, data_root: Path, progress: Progress) -> Path:
    target = data_root / TAR
    if not target.is_file():
        try:
            with zipfile.ZipFile(archive) as outer:
                info = next(i for i in outer.infolist() if i.filename.endswith(f"{TAR}.gz"))
                with outer.open(info) as packed:
                    gunzip(packed, info.file_size, info.filename, target, progress)
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
            raise DataError(f"{printable(archive)} is damaged: {printable(error)}", hint="get it again") from error
    return target


def _place(name: str, label_of: Mapping[str, int], wnids: Mapping[str, str], archive: Path) -> tuple[str, int]:
    """`<wnid>/<file>` and the label of an image; DataError if its path does not determine them."""
    train = _TRAIN.fullmatch(name)
    if train and train[1] == train[3] and train[1] in label_of:
        return f"{train[1]}/{train[2]}", label_of[train[1]]
    val = _VAL.fullmatch(name)
    if val is None or wnids.get(val[2]) not in label_of:
        if val:
            raise DataError(
                f"no label for {printable(name)} in {printable(archive.name)}",
                hint=f"put {ground_truth.SOLUTION}, which gives each image's class, beside {archive.name}",
            )
        raise DataError(
            f"{printable(archive.name)} holds {printable(name)}, where names like "
            f"{_IMAGES}train/n01440764/n01440764_10026.JPEG are expected",
            hint="this is not Kaggle's archive; download it again",
        )
    wnid = wnids[val[2]]
    return f"{wnid}/{val[1]}", label_of[wnid]


def _records(
    archive: Path, split: str, classes: tuple[str, ...], wnids: Mapping[str, str], progress: Progress
) -> Iterator[Record]:
    label_of = {wnid: label for label, wnid in enumerate(classes)}

    def place(path: str) -> tuple[str, int] | None:
        match = _ANY.fullmatch(path)
        return _place(path, label_of, wnids, archive) if match and match[1] == split else None

    return archive_records(archive, split, place, progress)
