"""Suites with their own images: ImageNetV2, ImageNet-A and ImageNet-R.

ImageNetV2 (Recht et al., arXiv:1902.10811) has ten images in each of the folders 0 to 999. The label is the number:
sorted as strings, as ImageFolder does, the folders would be 0, 1, 10, 100, … Some copies use wnids.
ImageNet-A (Hendrycks et al., arXiv:1907.07174) and -R (arXiv:2006.16241) have 200 wnids each, and only the outputs of
these 200 classes compete.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from resnetctl.data import imagenet
from resnetctl.data.index import Index, IndexInfo, index_path
from resnetctl.data.index_writer import IndexBuilder
from resnetctl.data.sources.folder import class_folders, image_records
from resnetctl.errors import DataError, counted, printable, some
from resnetctl.progress import Progress, silent

_NUMBER = re.compile(r"\d{1,3}")


class _Published(NamedTuple):
    name: str
    classes: int
    images: int


PUBLISHED = {
    "v2": _Published("ImageNetV2", 1000, 10_000),
    "a": _Published("ImageNet-A", 200, 7_500),
    "r": _Published("ImageNet-R", 200, 30_000),
}


@dataclass(frozen=True, kw_only=True)
class ImageSuite:
    """The images of a suite, and the model's outputs that compete."""

    index: Index
    outputs: tuple[int, ...] | None
    """The model's output for each class of the index, if only these compete; None: all, numbered as in the index."""
    notes: tuple[str, ...]
    """Files skipped in the folder."""
    caveats: tuple[str, ...]
    """How it differs from the published suite."""


def open_images(
    suite: str, folder: Path, classes: Sequence[str], scratch: Path, progress: Progress = silent
) -> ImageSuite:
    """The images below `folder` as an index in the folder `scratch`, for a model that knows `classes`.

    Raises DataError if the folder does not have the form of `suite`, a key of PUBLISHED.
    """
    published = PUBLISHED[suite]
    notes: list[str] = []
    caveats: list[str] = []
    root = _class_root(folder, published)
    folders = class_folders(root, notes)
    wnids = _wnids(folders, root, suite)
    if len(set(wnids)) < len(wnids):
        raise DataError(f"{printable(root)} has two folders for one class", hint="such as 7 and 007: remove one")
    known = set(wnids) & set(classes)
    if not known:
        raise DataError(
            f"the model knows none of the {len(folders):,} classes in {printable(root)}",
            hint="use a model whose classes are ImageNet's wnids, such as --weights imagenet1k-v2",
        )
    own = tuple(classes) if suite == "v2" else tuple(sorted(known))
    place = {wnid: label for label, wnid in enumerate(own)}
    builder, found = IndexBuilder(), 0
    for record in image_records(root, "", published.name, tuple(folders), notes, progress):
        found += 1
        label = place.get(wnids[record.label])
        if label is not None:
            builder.add(record._replace(label=label))
    if len(folders) != published.classes or found != published.images:
        caveats.append(
            f"{printable(root)} has {counted(found, 'image')} in {counted(len(folders), 'folder')}, "
            f"{published.name} as published has {published.images:,} in {published.classes:,}"
        )
    if found > len(builder):
        caveats.append(
            f"{found - len(builder):,} of {counted(found, 'image')} left out: the model does not know their class"
        )
    info = IndexInfo(
        split="val",
        source="folder",
        root=str(root.resolve()),
        classes=own,
        class_names=imagenet.names_of(own),
    )
    builder.write(index_path(scratch, "val"), info)
    return ImageSuite(
        index=Index(index_path(scratch, "val")),
        outputs=None if suite == "v2" else tuple(classes.index(wnid) for wnid in own),
        notes=tuple(notes),
        caveats=tuple(caveats),
    )


def _class_root(folder: Path, published: _Published) -> Path:
    """`folder`, or the folder inside it that has the class folders, as archives unpack."""
    if folder.is_file():
        raise DataError(
            f"{printable(folder)} is a file, but {published.name} is read from its folders",
            hint=f"unpack it: tar -xf {printable(folder.name)}",
        )
    if not folder.is_dir():
        raise DataError(f"there is no folder {printable(folder)}", hint=f"it should contain {published.name}")
    inside = class_folders(folder, [])
    if not inside:
        raise DataError(
            f"{printable(folder)} has no class folders",
            hint=f"{published.name} has {published.classes:,} of them; give the folder that contains them",
        )
    return folder / inside[0] if len(inside) == 1 and class_folders(folder / inside[0], []) else folder


def _wnids(folders: Sequence[str], root: Path, suite: str) -> list[str]:
    """The class of each folder: its number, if all of ImageNetV2's are numbers, else the wnid that is its name."""
    if suite == "v2" and all(map(_NUMBER.fullmatch, folders)):
        return [imagenet.wnids()[int(name)] for name in folders]
    strange = sorted(set(folders) - set(imagenet.wnids()))
    if strange:
        raise DataError(
            f"{printable(root)} has folders that are not ImageNet classes: {some(strange, 3)}",
            hint="the folders of ImageNetV2 are 0 to 999, or wnids" if suite == "v2" else "the folders are wnids",
        )
    return list(folders)
