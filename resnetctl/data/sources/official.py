"""The archives from image-net.org, indexed in place: nothing is unpacked or copied.

The train archive is an uncompressed tar of one uncompressed tar per class, so every image is at a fixed offset of one
file. The val archive is flat; its labels come from the devkit.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from resnetctl.data import imagenet
from resnetctl.data.archives.reader import open_file
from resnetctl.data.archives.tar import TarMember, tar_members
from resnetctl.data.imagenet import ground_truth
from resnetctl.data.imagenet.devkit import Devkit, read_devkit
from resnetctl.data.index import Record
from resnetctl.data.sources import Source
from resnetctl.data.sources.records import tar_record
from resnetctl.errors import DataError, printable, some
from resnetctl.progress import Progress

_TRAIN, _VAL, _DEVKIT = (archive.name for archive in imagenet.ARCHIVES)


def recognise(path: Path) -> bool:
    """Whether `path` holds one of the two image archives, or is one."""
    if path.is_file():
        return path.name in (_TRAIN, _VAL, _DEVKIT)
    return (path / _TRAIN).is_file() or (path / _VAL).is_file()


def open_source(path: Path, data_root: Path, kind: str, progress: Progress) -> Source:
    """Open the archives in `path`: read the devkit and list the members of the train archive."""
    root = path.parent if path.is_file() else path
    absent = [name for name in (_TRAIN, _VAL, _DEVKIT) if not (root / name).is_file()]
    if _TRAIN in absent and _VAL in absent:
        raise DataError(
            f"{printable(root)} has neither {_TRAIN} nor {_VAL}",
            hint="registered users get them at https://image-net.org/download",
        )
    devkit = read_devkit(root / _DEVKIT) if _DEVKIT not in absent else None
    classes = devkit.wnids if devkit else imagenet.wnids()
    labels = ground_truth.from_devkit(devkit) if devkit else ground_truth.from_table()
    source = Source(
        name=imagenet.NAME if classes == imagenet.wnids() else root.resolve().name,
        root=root,
        classes=classes,
        class_names=devkit.names if devkit else imagenet.names_of(classes),
        splits={},
        published=imagenet.meant_to_be_imagenet(classes),
        checksums={a.name: f"md5:{a.md5}" for a in imagenet.ARCHIVES if a.name not in absent},
        notes=[labels.note] if labels.note and _VAL not in absent else [],
    )
    source.missing.extend(f"{name} is missing: {what}" for name, what in _NEEDS.items() if name in absent)
    if _TRAIN not in absent:
        inner = _class_tars(root / _TRAIN)
        extra = sorted(inner.keys() - set(classes))
        if extra:
            raise DataError(
                f"{_TRAIN} holds {some([f'{w}.tar' for w in extra])}, which the devkit does not list",
                hint="the archive and the devkit do not belong together, or one of them was changed",
            )
        lacking = [f"{w}.tar" for w in classes if w not in inner]
        if lacking:
            source.missing.append(f"{_TRAIN} lacks {some(lacking)}")
        source.splits["train"] = partial(_train_records, root, classes, inner, devkit)
    if _VAL not in absent:
        source.splits["val"] = partial(_val_records, root, classes, labels)
    if devkit:
        _expect(source, devkit)
    return source


_NEEDS = {
    _TRAIN: "evaluation is possible, training is not",
    _VAL: "training is possible, evaluation is not",
}


def _expect(source: Source, devkit: Devkit) -> None:
    """Take the expected counts from the devkit, and note it if they are not the published ones."""
    source.expected["val"] = np.bincount(devkit.val_labels, minlength=len(devkit.wnids)).tolist()
    if devkit.train_counts:
        source.expected["train"] = devkit.train_counts
        promised = (len(devkit.wnids), sum(devkit.train_counts), len(devkit.val_labels))
        if promised != (imagenet.CLASSES, imagenet.TRAIN_IMAGES, imagenet.VAL_IMAGES):
            classes, train, val = promised
            source.notes.append(
                f"the devkit is not that of the whole ImageNet: it counts {classes:,} classes, {train:,} train and "
                f"{val:,} val images"
            )


def _class_tars(path: Path) -> dict[str, TarMember]:
    """Wnid to the tar of its images. Listing them first finds a truncated archive within seconds."""
    found: dict[str, TarMember] = {}
    with open_file(path) as (read, size):
        for member in tar_members(read, 0, size, path.name):
            wnid, _, suffix = member.name.partition(".")
            if not imagenet.WNID.fullmatch(wnid) or suffix != "tar":
                raise _unexpected(path.name, member.name, "n01440764.tar")
            if wnid in found:
                raise DataError(f"{path.name} holds {member.name} twice", hint="get the archive again")
            found[wnid] = member
    return found


def _train_records(
    root: Path, classes: tuple[str, ...], inner: dict[str, TarMember], devkit: Devkit | None, progress: Progress
) -> Iterator[Record]:
    labels = {wnid: label for label, wnid in enumerate(classes)}
    total = sum(devkit.train_counts) if devkit and devkit.train_counts else None
    done = 0
    with open_file(root / _TRAIN) as (read, _):
        for wnid, tar in inner.items():
            label, what = labels[wnid], f"{_TRAIN}: {wnid}.tar"
            for member in tar_members(read, tar.offset, tar.offset + tar.size, what):
                match = imagenet.TRAIN_FILE.fullmatch(member.name)
                if not match or match[1] != wnid:
                    raise _unexpected(what, member.name, f"{wnid}_10026.JPEG")
                yield tar_record(read, _TRAIN, member, f"{wnid}/{member.name}", label)
                done += 1
                progress("indexing train", done, total)


def _val_records(
    root: Path, classes: tuple[str, ...], labels: ground_truth.ValLabels, progress: Progress
) -> Iterator[Record]:
    label_of = {wnid: label for label, wnid in enumerate(classes)}
    with open_file(root / _VAL) as (read, size):
        for done, member in enumerate(tar_members(read, 0, size, _VAL), 1):
            if not imagenet.VAL_FILE.fullmatch(member.name):
                raise _unexpected(_VAL, member.name, "ILSVRC2012_val_00000001.JPEG")
            wnid = labels.wnids.get(member.name.removesuffix(".JPEG"))
            if wnid is None:
                raise DataError(
                    f"{_VAL} holds {member.name}, but the ground truth has {len(labels.wnids):,} lines",
                    hint=f"get {_DEVKIT} again; its md5 should be {imagenet.DEVKIT.md5}",
                )
            yield tar_record(read, _VAL, member, f"{wnid}/{member.name}", label_of[wnid])
            progress("indexing val", done, len(labels.wnids))


def _unexpected(archive: str, name: str, like: str) -> DataError:
    other = _VAL if archive == _TRAIN else _TRAIN
    if imagenet.VAL_FILE.fullmatch(name) if archive == _TRAIN else imagenet.WNID.fullmatch(name.removesuffix(".tar")):
        return DataError(f"{archive} holds {name}, which belongs in {other}", hint="were the two files' names swapped?")
    return DataError(
        f"{archive} holds {printable(name)}, where names like {like} are expected",
        hint="this is not image-net.org's archive; download it again",
    )
