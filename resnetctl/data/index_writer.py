"""Builds an index: records in any order in, a sorted index file out."""

from __future__ import annotations

import hashlib
import json
import os
from array import array
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from resnetctl.data.index import COLUMNS, FORMAT, METADATA_KEY, UNKNOWN_CRC, Index, IndexInfo, Record, file_order
from resnetctl.data.mapped import pack_strings
from resnetctl.errors import DataError, printable
from resnetctl.files import write_atomically
from resnetctl.typed_json import encode


class IndexBuilder:
    """Collects records in columns (about 80 bytes per sample plus names) and writes the index file."""

    def __init__(self) -> None:
        self._columns: dict[str, array[int]] = {k: array("q") for k in COLUMNS}
        self._names = bytearray()
        self._name_ends: array[int] = array("q")
        self._containers: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._name_ends)

    def add(self, record: Record) -> None:
        """Append one sample. Names keep undecodable bytes of the file system (surrogateescape)."""
        c = self._columns
        c["container"].append(self._containers.setdefault(record.container, len(self._containers)))
        c["offset"].append(record.offset)
        c["length"].append(record.length)
        c["size"].append(record.length if record.size < 0 else record.size)
        c["method"].append(record.method)
        c["label"].append(record.label)
        c["height"].append(record.height)
        c["width"].append(record.width)
        c["crc32"].append(record.crc32)
        self._names += os.fsencode(record.name)
        self._name_ends.append(len(self._names))

    def divide(self, is_second: Callable[[str, int], bool]) -> tuple[IndexBuilder, IndexBuilder]:
        """Two builders: the samples for which `is_second(name, label)` is false, and the others."""
        parts = IndexBuilder(), IndexBuilder()
        containers = list(self._containers)
        for i, (name, label) in enumerate(self.names_and_labels()):
            values = {k: column[i] for k, column in self._columns.items()}
            container = containers[values.pop("container")]
            parts[is_second(name, label)].add(Record(name=name, container=container, **values))
        return parts

    def names_and_labels(self) -> Iterator[tuple[str, int]]:
        """(name, label) of each sample, in insertion order."""
        start = 0
        for end, label in zip(self._name_ends, self._columns["label"], strict=True):
            yield os.fsdecode(bytes(self._names[start:end])), label
            start = end

    def class_counts(self, classes: int) -> np.ndarray:
        """Samples per class, `[classes] int64`."""
        return np.bincount(np.frombuffer(self._columns["label"], np.int64), minlength=classes)

    def total_bytes(self) -> int:
        """Total bytes of the image files on disk."""
        return int(np.frombuffer(self._columns["length"], np.int64).sum())

    def write(self, path: Path, info: IndexInfo) -> IndexInfo:
        """Write the index atomically and return `info` with its fingerprint; raises as `encode` does."""
        info, data = self.encode(info)
        write_atomically(path, data)
        return info

    def encode(self, info: IndexInfo, known: Index | None = None, *, release: bool = False) -> tuple[IndexInfo, bytes]:
        """Sort by (label, name); `info` with its fingerprint, and the bytes of the index file.

        `known`, an earlier index opened with `include_quarantined`, passes on the CRCs and (without `release`) the
        quarantine of samples with the same name, class and size.

        Raises DataError if two samples have the same name, or there are none.
        """
        count = len(self)
        if not count:
            raise DataError(f"the {info.split} split has no images", hint="check what SOURCE holds")
        ends = np.frombuffer(self._name_ends, np.int64)
        starts = np.concatenate(([0], ends[:-1]))
        blob = bytes(self._names)
        names = [blob[s:e] for s, e in zip(starts.tolist(), ends.tolist(), strict=True)]
        labels = np.frombuffer(self._columns["label"], np.int64)
        order = np.array(sorted(range(count), key=lambda i: (labels[i], names[i])), np.int64)
        names = [names[i] for i in order.tolist()]
        for i in range(1, count):
            if names[i] == names[i - 1]:
                raise DataError(
                    f"the {info.split} split holds {printable(os.fsdecode(names[i]))} twice",
                    hint="remove one of the two, then run prepare again",
                )
        arrays: dict[str, np.ndarray] = {
            k: np.frombuffer(self._columns[k], np.int64)[order].astype(dtype) for k, dtype in COLUMNS.items()
        }
        if known and known.info.classes == info.classes:
            crc32, quarantined = _known_of(known, arrays, names)
            arrays["crc32"] = np.where(arrays["crc32"] == UNKNOWN_CRC, crc32, arrays["crc32"])
            info = replace(info, quarantined=() if release else quarantined)
        return _encode(info, arrays, names, [os.fsencode(c) for c in self._containers])


def _encode(
    info: IndexInfo, arrays: dict[str, np.ndarray], names: list[bytes], containers: list[bytes]
) -> tuple[IndexInfo, bytes]:
    """`info` with its fingerprints and the index file's bytes; columns and names come sorted by (label, name)."""
    from safetensors.numpy import save

    usable = len(names) - len(info.quarantined)
    whole = _fingerprint(info.classes, arrays, names)
    if info.quarantined:
        order = file_order(len(names), info.quarantined)
        arrays = {k: np.ascontiguousarray(column[order]) for k, column in arrays.items()}
        names = [names[i] for i in order.tolist()]
    front = {k: column[:usable] for k, column in arrays.items()}
    fingerprint = _fingerprint(info.classes, front, names[:usable]) if info.quarantined else whole
    info = replace(info, fingerprint=fingerprint, whole_fingerprint=whole)
    arrays = arrays | pack_strings("name", names) | pack_strings("container_name", containers)
    return info, save(arrays, {METADATA_KEY: json.dumps({"format": FORMAT, **encode(info)}, sort_keys=True)})


def _known_of(known: Index, arrays: dict[str, np.ndarray], names: list[bytes]) -> tuple[np.ndarray, tuple[int, ...]]:
    """From `known`, for samples sorted by (label, name): their CRCs `[N] int64`, and which are in quarantine."""
    place = np.argsort(known.file_order)
    if known.info.whole_fingerprint == _fingerprint(known.info.classes, arrays, names):
        return np.array(known.crc32)[place], known.info.quarantined
    labels, sizes, crcs = (column[place].tolist() for column in (known.label, known.size, known.crc32))
    bad = (place >= len(known) - known.quarantined).tolist()
    found = np.full(len(names), UNKNOWN_CRC, np.int64)
    quarantined, k = [], 0
    wanted = zip(arrays["label"].tolist(), names, arrays["size"].tolist(), strict=True)
    for i, (label, name, size) in enumerate(wanted):  # both are sorted: a merge
        while k < len(labels) and (labels[k], os.fsencode(known.name(int(place[k])))) < (label, name):
            k += 1
        if k == len(labels):
            break
        if (labels[k], sizes[k]) == (label, size) and os.fsencode(known.name(int(place[k]))) == name:
            found[i] = crcs[k]
            if bad[k]:
                quarantined.append(i)
    return found, tuple(quarantined)


def _fingerprint(classes: tuple[str, ...], arrays: dict[str, np.ndarray], names: list[bytes]) -> str:
    digest = hashlib.sha256(json.dumps(list(classes)).encode())
    for column in (arrays["label"], arrays["size"], *pack_strings("name", names).values()):
        digest.update(np.ascontiguousarray(column).tobytes())
    return digest.hexdigest()


def with_findings(index: Index, crc32: np.ndarray, quarantined: np.ndarray) -> tuple[IndexInfo, bytes]:
    """A copy of the whole `index` with new CRCs and quarantine: its info and its file's bytes.

    `crc32 [N] int64` and `quarantined [N] bool` follow the order of `index`, opened with `include_quarantined`.
    """
    assert index.include_quarantined
    place = np.argsort(index.file_order)  # from the file's order to the order by (label, name)
    arrays = {k: np.array(getattr(index, k))[place] for k in COLUMNS}
    arrays["crc32"] = crc32.astype(np.int64)[place]
    names = [os.fsencode(index.name(i)) for i in place.tolist()]
    containers = [os.fsencode(index.container_name(c)) for c in range(index.containers)]
    numbers = tuple(np.flatnonzero(quarantined[place]).tolist())
    return _encode(replace(index.info, quarantined=numbers), arrays, names, containers)
