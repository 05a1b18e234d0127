"""The ways in which people hold a data set: one module each, all yielding the same records.

To add one, write `sources/<kind>.py` with the two functions of `Source`, and give it a line in `SOURCES`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from resnetctl.progress import Progress

if TYPE_CHECKING:  # the command line reads the table below, and must not wait for numpy
    from resnetctl.data.index import Record

SOURCES = {
    "official": "the official archives, ILSVRC2012_img_{train,val}.tar and the devkit, used as they are",
    "folder": "class folders, train/<class>/* and val/<class>/*, as torchvision's ImageFolder reads them",
    "sample": "2,500 real images that come with resnetctl, to try everything out; needs no SOURCE",
}
"""Kind to what it is, in the order in which they are asked whether they recognise a folder."""


@dataclass(frozen=True, kw_only=True)
class SourceData:
    """What a source holds, before its samples are listed."""

    name: str
    """What to call the data set."""
    root: Path
    """The folder that the containers' paths are relative to."""
    classes: tuple[str, ...]
    """Class folders or wnids, sorted: the label is the position."""
    class_names: tuple[str, ...]
    """What people call them, in the same order."""
    splits: dict[str, Callable[[Progress], Iterator[Record]]]
    """Split to a function that lists its samples, in any order; it raises DataError where they are damaged."""
    expected: dict[str, Sequence[int]] = field(default_factory=dict)
    """Split to the images of each class, where the source itself says how many there should be."""
    published: bool = False
    """Whether it should be all of ImageNet: a split not in `expected` is then held against the published counts."""
    recipe: str | None = None
    """The recipe that suits it, where one was made for it."""
    missing: list[str] = field(default_factory=list)
    """What is not there: a reason to refuse, unless `--allow-incomplete`."""
    notes: list[str] = field(default_factory=list)
    """What the user should know; it may grow while the samples are listed."""


class Source(Protocol):
    """The module of a source."""

    def recognise(self, path: Path) -> bool:
        """Whether the file or folder at `path` is held in this way; quick, and reads no image."""

    def open_source(self, path: Path, data_root: Path) -> SourceData:
        """What `path` holds. Raises DataError where it cannot be used; writes nothing outside `data_root`."""


def source_module(kind: str) -> Source:
    """The module for `kind`, a key of SOURCES."""
    assert kind in SOURCES
    return cast(Source, import_module(f"{__name__}.{kind}"))
