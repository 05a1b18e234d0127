"""Suites that bring images along: ImageNetV2, ImageNet-A and ImageNet-R.

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
from resnetctl.errors import DataError, printable, some
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
    """The images of a suite, labelled as the model counts its classes."""

    index: Index
    competing: tuple[int, ...] | None
    """The outputs among which the highest is looked for; None: all."""
    left_out: int
    """Images of classes that the model does not know."""
    notes: tuple[str, ...]
    """Where it is not what was published, in words."""


def open_images(
    suite: str, folder: Path, classes: Sequence[str], scratch: Path, progress: Progress = silent
) -> ImageSuite:
    """The images below `folder` as an index in the folder `scratch`, for a model that knows `classes`.

    Raises DataError where the folder is not what `suite` (a key of PUBLISHED) is held in.
    """
    published = PUBLISHED[suite]
    notes: list[str] = []
    root = _class_root(folder, published)
    folders = class_folders(root, notes)
    wnids = [_wnid(name, folders, root, suite) for name in folders]
    place = {wnid: label for label, wnid in enumerate(classes)}
    known = [(name, place[wnid]) for name, wnid in zip(folders, wnids, strict=True) if wnid in place]
    if len({label for _, label in known}) < len(known):
        raise DataError(f"{printable(root)} has two folders for one class", hint="such as 7 and 007: remove one")
    if not known:
        raise DataError(
            f"the model knows none of the {len(folders):,} classes in {printable(root)}",
            hint="take a model whose classes are ImageNet's wnids, such as --weights imagenet1k-v2",
        )
    builder, labels, found = IndexBuilder(), dict(known), 0
    for record in image_records(root, "", published.name, tuple(folders), notes, progress):
        found += 1
        label = labels.get(folders[record.label])
        if label is not None:
            builder.add(record._replace(label=label))
    if len(folders) != published.classes or found != published.images:
        notes.append(
            f"{printable(root)} has {found:,} images of {len(folders):,} classes, and {published.name} as published "
            f"{published.images:,} of {published.classes:,}: the result compares with no other"
        )
    if found > len(builder):
        notes.append(f"{found - len(builder):,} of {found:,} images are left out: the model does not know their class")
    info = IndexInfo(
        split="val",
        source="folder",
        root=str(root.resolve()),
        classes=tuple(classes),
        class_names=imagenet.names_of(tuple(classes)),
    )
    builder.write(index_path(scratch, "val"), info)
    return ImageSuite(
        index=Index(index_path(scratch, "val")),
        competing=None if suite == "v2" else tuple(sorted(labels.values())),
        left_out=found - len(builder),
        notes=tuple(notes),
    )


def _class_root(folder: Path, published: _Published) -> Path:
    """`folder`, or the one inside it that holds the class folders, as archives unpack."""
    if folder.is_file():
        raise DataError(
            f"{printable(folder)} is a file, and {published.name} is read from its folders",
            hint=f"unpack it: tar -xf {printable(folder.name)}",
        )
    if not folder.is_dir():
        raise DataError(f"there is no folder {printable(folder)}", hint=f"it should hold {published.name}")
    inside = class_folders(folder, [])
    if not inside:
        raise DataError(
            f"{printable(folder)} has no class folders",
            hint=f"{published.name} has {published.classes:,} of them; give the folder that they lie in",
        )
    return folder / inside[0] if len(inside) == 1 and class_folders(folder / inside[0], []) else folder


def _wnid(name: str, folders: Sequence[str], root: Path, suite: str) -> str:
    """The class of a folder: its number, where all of ImageNetV2's are numbers, else the wnid that is its name."""
    if suite == "v2" and all(_NUMBER.fullmatch(n) for n in folders):
        return imagenet.wnids()[int(name)]
    if name in imagenet.wnids():
        return name
    strange = [n for n in folders if n not in imagenet.wnids()]
    raise DataError(
        f"{printable(root)} has folders that are no classes of ImageNet: {some(strange, 3)}",
        hint="the folders of ImageNetV2 are 0 to 999, or wnids" if suite == "v2" else "the folders are wnids",
    )
