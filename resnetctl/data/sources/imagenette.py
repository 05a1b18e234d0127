"""fast.ai's Imagenette and Imagewoof: ten classes of ImageNet each, <https://github.com/fastai/imagenette>.

The `.tgz` is downloaded if missing, and unpacked once to a `.tar`, which is indexed in place. The md5 sums are those in
torchvision.datasets.Imagenette; none is published for Imagewoof, whose archives have changed once.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from resnetctl.data import imagenet
from resnetctl.data.archives.gunzip import gunzip_file
from resnetctl.data.index import Record
from resnetctl.data.sources import Source
from resnetctl.data.sources.records import archive_records
from resnetctl.download import download, file_checksum
from resnetctl.errors import DataError, printable, some
from resnetctl.progress import Progress

URL_VARIABLE = "RESNETCTL_IMAGENETTE_URL"
_URL = "https://s3.amazonaws.com/fast-ai-imageclas"
_MD5 = {
    "imagenette2": "fe2fc210e6bb7c5664d602c3cd71e612",
    "imagenette2-320": "3df6f0d01a2c9592104656642f5e78a3",
    "imagenette2-160": "e793b78cc4c9e9a4ccc0c1155377a412",
}
_FILE = re.compile(r"(image(?:nette|woof)2(?:-320|-160)?)\.(tgz|tar)")
_WNIDS = {
    "imagenette2": (
        "n01440764 n02102040 n02979186 n03000684 n03028079 n03394916 n03417042 n03425413 n03445777 n03888257"
    ),
    "imagewoof2": (
        "n02086240 n02087394 n02088364 n02089973 n02093754 n02096294 n02099601 n02105641 n02111889 n02115641"
    ),
}
_MEMBER = re.compile(r"[^/]+/(train|val)/(n\d{8})/([^/]+\.JPEG)")


def recognise(path: Path) -> bool:
    """Whether `path` is one of Imagenette's archives, or a folder that holds one."""
    return recognise_family(path, "imagenette2")


def recognise_family(path: Path, family: str) -> bool:
    """The same for `family`, imagenette2 or imagewoof2."""
    if path.is_file():
        return path.name.startswith(family) and _FILE.fullmatch(path.name) is not None
    return bool(_archives(path, family))


def _archives(folder: Path, name: str) -> list[Path]:
    """The archives in `folder` whose names begin with `name`, the shortest first, a `.tar` before its `.tgz`."""
    found = [p for p in folder.iterdir() if p.is_file() and _FILE.fullmatch(p.name)] if folder.is_dir() else []
    return sorted((p for p in found if p.name.startswith(name)), key=lambda p: (len(p.stem), p.name))


def open_source(path: Path, data_root: Path, kind: str, progress: Progress) -> Source:
    """The archive at or in `path`, downloaded into `data_root` if missing, and unpacked."""
    family, dash, side = kind.partition("-")
    wanted = f"{family}2{dash}{side}"  # without a side: the full size, or else any that exists
    notes: list[str] = []
    archives = [path] if path.is_file() else _archives(path, f"{wanted}." if side else wanted)
    downloaded = not archives
    if downloaded and path != data_root:
        raise DataError(
            f"{printable(path)} has no {wanted}.tgz",
            hint=f"to download it, leave out SOURCE: resnetctl prepare --source {kind}",
        )
    if downloaded:
        archives = [_download(wanted, data_root, notes, progress)]
    archive = archives[0]
    match = _FILE.fullmatch(archive.name)
    if match is None:
        raise DataError(
            f"{printable(archive)} is not named like one of fast.ai's archives",
            hint="imagenette2-160.tgz and the like; rename it, or unpack it and give the folder",
        )
    name = match[1]
    if match[2] == "tgz":
        tar = data_root / f"{name}.tar"
        if not downloaded:
            _check_md5(archive, name, progress)
        gunzip_file(archive, tar, progress)
        if downloaded:
            archive.unlink()
        archive = tar
    classes = tuple(_WNIDS[name.partition("-")[0]].split())
    return Source(
        name=name,
        root=archive.parent,
        classes=classes,
        class_names=imagenet.names_of(classes),
        splits={split: partial(_records, archive, split, classes, notes) for split in ("train", "val")},
        recipe="small" if name.endswith("-160") else None,
        notes=notes,
    )


def _download(name: str, data_root: Path, notes: list[str], progress: Progress) -> Path:
    target = data_root / f"{name}.tgz"
    url = f"{os.environ.get(URL_VARIABLE, _URL).rstrip('/')}/{name}.tgz"
    checksum = f"md5:{_MD5[name]}" if name in _MD5 else None
    download(url, target, checksum, progress)
    if checksum is None:
        found = file_checksum(target, "sha256")
        notes.append(f"no checksum is published for {name}.tgz; the one from {url} has {found}")
    return target


def _check_md5(archive: Path, name: str, progress: Progress) -> None:
    if name in _MD5 and (found := file_checksum(archive, "md5", progress)) != f"md5:{_MD5[name]}":
        raise DataError(
            f"{printable(archive)} is not fast.ai's: its {found} should be md5:{_MD5[name]}",
            hint="download it again; or, if it was changed on purpose, unpack it and give the folder",
        )


def _records(
    archive: Path, split: str, classes: tuple[str, ...], notes: list[str], progress: Progress
) -> Iterator[Record]:
    label_of = {wnid: label for label, wnid in enumerate(classes)}
    ignored = []

    def place(path: str) -> tuple[str, int] | None:
        match = _MEMBER.fullmatch(path)
        if match is None:
            ignored.append(path)
        if match is None or match[1] != split:
            return None
        if match[2] not in label_of:
            raise DataError(
                f"{printable(archive.name)} holds {printable(path)}, which does not belong there",
                hint="download it again from https://github.com/fastai/imagenette",
            )
        return f"{match[2]}/{match[3]}", label_of[match[2]]

    yield from archive_records(archive, split, place, progress)
    if ignored and split == "train":
        notes.append(f"{len(ignored):,} files are not images: {some(ignored)}")
