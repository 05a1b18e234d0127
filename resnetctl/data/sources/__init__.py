"""The forms in which people store a data set: one module each, all yielding the same records.

To add one, write `sources/<kind>.py` with the two functions of `SourceModule`, and add a line to `SOURCES`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol, cast

from resnetctl.progress import Progress

if TYPE_CHECKING:  # the command line reads the table below and must not wait for numpy
    from resnetctl.data.index import Record

SOURCES = {
    "shards": "packed shards, as prepare --pack writes them",
    "official": "the official archives, ILSVRC2012_img_{train,val}.tar and the devkit, used as they are",
    "kaggle": "the Kaggle archive, imagenet-object-localization-challenge.zip, or the .tar.gz inside it",
    "parquet": "the parquet files of Hugging Face's ILSVRC/imagenet-1k, copied into shards",
    "flat": "a tree whose val/ has no class folders: Kaggle's unpacked, or with the devkit beside it",
    "imagenette": "Imagenette's .tgz; downloaded (1.5 GB) without SOURCE",
    "folder": "class folders, train/<class>/* and val/<class>/*, as torchvision's ImageFolder reads them",
    "archive": "a .zip or .tar of class folders, with or without train/ and val/, used as it is",
    "sample": "2,500 real images that come with resnetctl, to try everything out; needs no SOURCE",
    "imagenette-320": "the same with a shorter side of 320 pixels (340 MB)",
    "imagenette-160": "the same with a shorter side of 160 pixels (100 MB)",
    "imagewoof": "Imagewoof, ten breeds of dogs, likewise; with -320 and -160 too",
    "imagewoof-320": "its shorter side 320 pixels",
    "imagewoof-160": "its shorter side 160 pixels",
}
"""Kind to description, in the order in which they are tried on a folder.

The part after a dash is a variant for the module; only kinds without one are tried.
"""


class Sample(NamedTuple):
    """An image to be written into a shard. `name` is `<class>/<file>`."""

    name: str
    label: int
    data: bytes


class Piece(Protocol):
    """Images that become one shard; picklable, since another process reads them."""

    @property
    def bytes(self) -> int:
        """Roughly how much there is to read."""

    @property
    def origin(self) -> str:
        """A description that is unique to the piece."""

    def samples(self) -> Iterator[Sample]:
        """The images, in order. Raises DataError if they cannot be read."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """A source's content, before its samples are listed."""

    name: str
    """The name of the data set."""
    root: Path
    """The folder that the containers' paths are relative to."""
    classes: tuple[str, ...]
    """Class folders or wnids, sorted: the label is the position."""
    class_names: tuple[str, ...]
    """Readable names, in the same order."""
    splits: dict[str, Callable[[Progress], Iterator[Record]]]
    """Split to a function that lists its samples, in any order; it raises DataError if they are damaged."""
    expected: dict[str, Sequence[int]] = field(default_factory=dict)
    """Split to the expected images per class, if the source specifies them."""
    pieces: dict[str, Sequence[Piece]] = field(default_factory=dict)
    """Split to the pieces, a shard each, of a source that must be copied into shards before it can be read."""
    checksums: dict[str, str] = field(default_factory=dict)
    """File below `root` to its known checksum, `md5:…` or `sha256:…`."""
    published: bool = False
    """Whether it claims to be all of ImageNet: then its counts are also checked against the published ones."""
    recipe: str | None = None
    """The recipe made for it, if any."""
    missing: list[str] = field(default_factory=list)
    """Missing parts: a reason to refuse, unless `--allow-incomplete`."""
    notes: list[str] = field(default_factory=list)
    """Remarks for the user; the list may grow while samples are listed."""


class SourceModule(Protocol):
    """The module of a source."""

    def recognise(self, path: Path) -> bool:
        """Whether the file or folder at `path` has this form; quick, and reads no image."""

    def open_source(self, path: Path, data_root: Path, kind: str, progress: Progress) -> Source:
        """Open `path`. Raises DataError if it cannot be used; writes nothing outside `data_root`."""


def source_module(kind: str) -> SourceModule:
    """The module for `kind`, a key of SOURCES."""
    assert kind in SOURCES
    return cast(SourceModule, import_module(f"{__name__}.{kind.partition('-')[0]}"))


def recognised(path: Path) -> list[str]:
    """The kinds that fit `path`."""
    kinds = [kind for kind in SOURCES if "-" not in kind and source_module(kind).recognise(path)]
    # any .zip or .tar counts as class folders unless a more specific kind fits
    return [kind for kind in kinds if kind != "archive"] or kinds
