"""The index: where each sample's bytes are, and its label.

A sample is `length` bytes at `offset` in a *container*: a tar or zip with many samples, a packed shard, or a single
image file (offset 0). One reader therefore serves all sources, nothing is extracted, and an index of 1.28 million
samples is opened by mapping one file.

Samples are sorted by (label, name), and a name is `<class>/<file>` for every source. So sample number i is the same
image however the data set is stored, and a run can be resumed after moving from archives to shards.

Samples that `verify` quarantined come after all others and are visible only with `include_quarantined`: training and
evaluation have nothing to filter. The fingerprint covers the samples before them.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from resnetctl.data.archives import MAX_SAMPLE_BYTES, STORED
from resnetctl.data.mapped import damaged, map_safetensors
from resnetctl.errors import DataError, printable
from resnetctl.typed_json import decode, parse

FORMAT = 2
UNKNOWN_CRC = -1
SPLITS = ("train", "val")

METADATA_KEY = "resnetctl"
COLUMNS: dict[str, Any] = {
    "container": np.int32,
    "offset": np.int64,
    "length": np.int64,
    "size": np.int64,  # of the image's own bytes: more than `length` if stored deflated
    "method": np.uint8,
    "label": np.int32,
    "height": np.int32,  # 0: unknown
    "width": np.int32,
    "crc32": np.int64,  # of the image's own bytes; -1: unknown
}
_STRINGS = ("name", "container_name")


class Record(NamedTuple):
    """One sample from a source. `name` is `<class>/<file>`; `container` is a path relative to the root."""

    name: str
    container: str
    offset: int
    length: int
    label: int
    height: int = 0
    width: int = 0
    method: int = STORED
    crc32: int = UNKNOWN_CRC
    size: int = -1
    """Bytes when decompressed; -1: the same as `length`."""


@dataclass(frozen=True, kw_only=True)
class IndexInfo:
    """An index's metadata."""

    split: str
    """`train` or `val`."""
    source: str
    """The kind of source, as `prepare --source` names it."""
    root: str
    """The folder that container paths are relative to: absolute, or relative to the index's own folder."""
    classes: tuple[str, ...]
    """Class folders or wnids in label order: the label is the position. Sorted as Python sorts strings."""
    class_names: tuple[str, ...]
    """Readable names in the same order (those of `classes` if no better ones are known)."""
    incomplete: str | None = None
    """What was missing when `--allow-incomplete` let it pass; None for a whole data set."""
    notes: tuple[str, ...] = ()
    """Remarks worth keeping: an overridden check, labels taken from another table."""
    fingerprint: str = ""
    """sha256 of classes, names, labels and sizes: the same for the same images wherever they are stored."""
    whole_fingerprint: str = ""
    """The same, including samples in quarantine."""
    quarantined: tuple[int, ...] = ()
    """Numbers of the samples in quarantine, in the order by (label, name)."""


def index_path(data_root: Path, split: str) -> Path:
    """The path of the index of `split` in a data root."""
    return data_root / f"{split}.index.safetensors"


def file_order(count: int, quarantined: tuple[int, ...]) -> np.ndarray:
    """`[count] int64`: for each row of the file, its sample's number in the order by (label, name)."""
    back = np.array(quarantined, np.int64)
    return np.concatenate((np.delete(np.arange(count), back), back))


class Index:
    """An index file, mapped. Columns are numpy arrays `[N]`; `index[i]` is sample i as a Record."""

    def __init__(self, path: Path, *, include_quarantined: bool = False) -> None:
        """Map and check the file at `path`; `include_quarantined`: including samples in quarantine, which come last.

        Raises DataError if it is missing, damaged, of another format, or has only samples in quarantine.
        """
        self._open_files: dict[int, int] = {}
        self.path = path
        self.include_quarantined = include_quarantined
        arrays, metadata = map_safetensors(path)
        try:
            head = parse(metadata[METADATA_KEY], "its metadata")
            if not isinstance(head, dict) or head.pop("format", None) != FORMAT:
                raise ValueError("another format version")
            self.info = decode(IndexInfo, head, "its metadata")
            self._check(arrays)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
            raise damaged(path, str(error)) from error
        count = len(arrays["label"]) - (0 if include_quarantined else len(self.info.quarantined))
        if not count:
            raise DataError(
                f"every image of the {self.info.split} split is in quarantine",
                hint="resnetctl verify tells what is wrong with them",
            )
        self.container: np.ndarray = arrays["container"][:count]
        self.offset: np.ndarray = arrays["offset"][:count]
        self.length: np.ndarray = arrays["length"][:count]
        self.size: np.ndarray = arrays["size"][:count]
        self.method: np.ndarray = arrays["method"][:count]
        self.label: np.ndarray = arrays["label"][:count]
        self.height: np.ndarray = arrays["height"][:count]
        self.width: np.ndarray = arrays["width"][:count]
        self.crc32: np.ndarray = arrays["crc32"][:count]
        self._strings = {k: (arrays[f"{k}_bytes"], arrays[f"{k}_ends"]) for k in _STRINGS}
        self.root = Path(os.path.normpath(path.parent / self.info.root))

    def _check(self, arrays: dict[str, np.ndarray]) -> None:
        wanted = COLUMNS | {f"{k}_bytes": np.uint8 for k in _STRINGS} | {f"{k}_ends": np.int64 for k in _STRINGS}
        for key, dtype in wanted.items():
            if arrays[key].dtype != dtype or arrays[key].ndim != 1:
                raise ValueError(f"{key} has the wrong type")
        count, containers = len(arrays["label"]), len(arrays["container_name_ends"])
        if not count or any(len(arrays[k]) != count for k in (*COLUMNS, "name_ends")):
            raise ValueError("columns of different lengths")
        for key, low, high in (
            ("label", 0, len(self.info.classes)),
            ("container", 0, containers),
            ("length", 0, MAX_SAMPLE_BYTES + 1),
            ("size", 0, MAX_SAMPLE_BYTES + 1),
            ("offset", 0, 1 << 62),
        ):
            if arrays[key].min() < low or arrays[key].max() >= high:
                raise ValueError(f"{key} out of range")
        for key in _STRINGS:
            ends = arrays[f"{key}_ends"]
            if (np.diff(ends, prepend=0) < 0).any() or ends[-1] > len(arrays[f"{key}_bytes"]):
                raise ValueError(f"{key} out of range")
        numbers = self.info.quarantined
        if sorted(set(numbers)) != list(numbers) or (numbers and not 0 <= numbers[0] <= numbers[-1] < count):
            raise ValueError("quarantined out of range")
        if len(self.info.class_names) != len(self.info.classes) or self.info.split not in SPLITS:
            raise ValueError("class names do not match classes")

    def __len__(self) -> int:
        return len(self.label)

    @property
    def quarantined(self) -> int:
        """The number of samples in quarantine."""
        return len(self.info.quarantined)

    @property
    def file_order(self) -> np.ndarray:
        """`[N] int64`: the number of each sample, those in quarantine included, in the order by (label, name)."""
        return file_order(len(self._strings["name"][1]), self.info.quarantined)

    def _string(self, key: str, i: int) -> str:
        blob, ends = self._strings[key]
        return os.fsdecode(blob[int(ends[i - 1]) if i else 0 : int(ends[i])].tobytes())

    def name(self, i: int) -> str:
        """`<class>/<file>` of sample i."""
        return self._string("name", i)

    def container_name(self, c: int) -> str:
        """The path of container c relative to the root."""
        return self._string("container_name", c)

    def container_path(self, c: int) -> Path:
        """The path of container c."""
        return self.root / self.container_name(c)

    @property
    def containers(self) -> int:
        """The number of containers."""
        return len(self._strings["container_name"][1])

    def __getitem__(self, i: int) -> Record:
        return Record(
            self.name(i),
            self.container_name(int(self.container[i])),
            int(self.offset[i]),
            int(self.length[i]),
            int(self.label[i]),
            int(self.height[i]),
            int(self.width[i]),
            int(self.method[i]),
            int(self.crc32[i]),
            int(self.size[i]),
        )

    def __iter__(self) -> Iterator[Record]:
        return (self[i] for i in range(len(self)))

    def __del__(self) -> None:
        for fd in self._open_files.values():
            os.close(fd)

    def read(self, i: int) -> bytes:
        """The image file of sample i, decompressed if stored deflated.

        Raises DataError if the container is gone or ends early. Safe in a forked worker: it uses pread.
        """
        c, length = int(self.container[i]), int(self.length[i])
        try:
            data = self._pread(c, int(self.offset[i]), length)
        except (OSError, ValueError) as error:  # ValueError: a path with a zero byte
            raise DataError(
                f"cannot read {printable(self.container_path(c))}: {getattr(error, 'strerror', error)}",
                hint="if the images were moved, run: resnetctl prepare SOURCE",
            ) from error
        if len(data) != length:
            raise DataError(
                f"{printable(self.container_path(c))} ends before {printable(self.name(i))} does",
                hint="the file was cut short after prepare: restore it, then run resnetctl prepare SOURCE",
            )
        if self.method[i] == STORED:
            return data
        try:
            inflate = zlib.decompressobj(-zlib.MAX_WBITS)
            data = inflate.decompress(data, int(self.size[i]) + 1)
            if not inflate.eof or len(data) != self.size[i]:
                raise zlib.error(f"not the {self.size[i]:,} bytes that the archive claims")
        except zlib.error as error:
            raise DataError(f"{printable(self.name(i))} cannot be decompressed: {error}") from error
        return data

    def _pread(self, c: int, offset: int, length: int) -> bytes:
        if self.containers > 4096:  # one file per sample: descriptors would run out
            fd = os.open(self.container_path(c), os.O_RDONLY)
            try:
                return os.pread(fd, length, offset)
            finally:
                os.close(fd)
        if c not in self._open_files:
            if len(self._open_files) >= 512:
                os.close(self._open_files.pop(next(iter(self._open_files))))
            self._open_files[c] = os.open(self.container_path(c), os.O_RDONLY)
        return os.pread(self._open_files[c], length, offset)


def open_unchanged(path: Path, fingerprint: str | None) -> Index:
    """The index at `path`, which must have `fingerprint` (None: not checked).

    A loader's workers open it by path, and prepare or verify may have replaced it since the run began. Raises DataError
    if so.
    """
    index = Index(path)
    if fingerprint is not None and index.info.fingerprint != fingerprint:
        raise DataError(
            f"{printable(path)} was replaced while it was in use, by resnetctl prepare or verify",
            hint="start or resume again with the present data set",
        )
    return index
