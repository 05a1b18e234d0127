"""Verifies a prepared data set: archives, counts, classes, label order, and that every image decodes.

Findings are kept: the CRC of each image, against which later runs are checked, and the bad images, which are
quarantined so that training and evaluation skip them.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from resnetctl.data.batches.order import permutation
from resnetctl.data.checks import Check, classes, counts, labels, not_in_the_index, same_classes
from resnetctl.data.dataset import Dataset, load_dataset, write_dataset
from resnetctl.data.duplicates import Duplicates, Part, find_duplicates
from resnetctl.data.image_check import ImageCheck, check_image
from resnetctl.data.images.perceptual import check_imagehash
from resnetctl.data.index import UNKNOWN_CRC, Index, index_path
from resnetctl.data.index_writer import with_findings
from resnetctl.data.missing import missing_source
from resnetctl.data.quarantine import BadImage
from resnetctl.download import file_checksum
from resnetctl.errors import counted, printable, some
from resnetctl.files import folder_lock
from resnetctl.parallel import in_parallel
from resnetctl.progress import Progress, silent

_CHUNK = 64  # images that a worker checks before it reports


@dataclass(frozen=True, kw_only=True)
class Report:
    """The findings of `verify`."""

    dataset: Dataset
    """The data set afterwards: bad images are no longer counted."""
    checks: tuple[Check, ...]
    bad: tuple[BadImage, ...]
    """Sorted by split and position in the index."""
    notes: dict[str, int]
    """Unusual but harmless property to its number of images."""
    remarks: tuple[str, ...]
    """Remarks from prepare, and on what verify recorded."""
    duplicates: tuple[Duplicates, ...]
    """Images in both splits or in two classes: not an error, since ImageNet has some."""
    images: int
    """The number decoded."""
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether everything is in order."""
        return not self.bad and all(check.ok for check in self.checks)


@dataclass(kw_only=True)
class _Findings:
    """Findings from decoding a split's images, by row in the whole index."""

    rows: np.ndarray
    """The rows checked."""
    bad: dict[int, str] = field(default_factory=dict)
    crc32: dict[int, int] = field(default_factory=dict)
    """Of images whose CRC was unknown, or whose change was accepted."""
    changed: int = 0
    """Images that decode, but whose bytes changed since their CRC was recorded."""
    unusual: Counter[str] = field(default_factory=Counter)
    looks: dict[int, int] = field(default_factory=dict)
    """Perceptual hashes, if requested."""


def verify(
    data_root: Path,
    *,
    workers: int,
    archives: bool = False,
    accept_archives: bool = False,
    accept_changed: bool = False,
    sample: int | None = None,
    near: bool = False,
    progress: Progress = silent,
) -> Report:
    """Check the data set in `data_root`, decoding every image in `workers` processes (0: in this one).

    `archives`: also check the archives' checksums; `accept_archives`: accept and record those that differ.
    `accept_changed`: accept images that decode, but changed since their CRC was recorded. `sample`: decode only so many
    images of each split, and record nothing. `near`: report similar images as well as identical ones; with `sample`
    neither are searched.

    Raises DataError if there is no prepared data set, its index cannot be read or its images are gone as a whole,
    and ResnetctlError if another process is preparing or verifying it.
    """
    start = time.monotonic()
    if near:
        check_imagehash()
    dataset = load_dataset(data_root)
    with _lock(data_root, sample) as writable:
        indexes = {split: dataset.open(split, include_quarantined=True) for split in dataset.fingerprints}
        _refuse_missing(indexes)
        checks = list(_without_decoding(indexes, progress))
        accepted = dict(dataset.accepted)
        if archives:
            root = next(iter(indexes.values())).root
            checks += _archives(root, dataset.checksums, accepted, accept_archives, progress)
        how = partial(check_image, accept_changed=accept_changed, look=near)
        found = {split: _decode(index, workers, sample, how, progress) for split, index in indexes.items()}
        checks += [_images(index, found[split]) for split, index in indexes.items()]
        _refuse_missing(indexes)  # a disk that failed meanwhile must not quarantine images
        duplicates = [] if sample else find_duplicates([_part(i, found[s], near) for s, i in indexes.items()])
        bad = [_bad_image(index, i, why) for split, index in indexes.items() for i, why in found[split].bad.items()]
        remarks = list(dict.fromkeys(note for index in indexes.values() for note in index.info.notes))
        remarks += [_changed(split, f.changed, accept_changed) for split, f in found.items() if f.changed]
        if writable:
            try:
                dataset, kept = _keep(replace(dataset, accepted=accepted), indexes, found, bad)
            except OSError as error:  # a full disk must not cost the report
                kept = [f"nothing could be saved in {printable(data_root)}: {error.strerror}"]
            remarks += kept
        elif sample is None:
            remarks.append(f"{printable(data_root)} is not writable: nothing was quarantined, no CRC recorded")
    return Report(
        dataset=dataset,
        checks=tuple(checks),
        bad=tuple(bad),
        notes=dict(sum((f.unusual for f in found.values()), Counter())),
        remarks=tuple(remarks),
        duplicates=tuple(duplicates),
        images=sum(len(f.rows) for f in found.values()),
        seconds=time.monotonic() - start,
    )


def _without_decoding(indexes: dict[str, Index], progress: Progress) -> Iterator[Check]:
    """Checks of the indexes and the file names."""
    for split, index in indexes.items():
        yield from (counts(index), classes(index), *labels(index))
        progress(f"checking {split}", len(index), len(index))
    yield same_classes(indexes)
    yield from not_in_the_index(indexes)


def _refuse_missing(indexes: dict[str, Index]) -> None:
    """Raise DataError if the images of a split are gone as a whole."""
    for index in indexes.values():
        if error := missing_source(index):
            raise error


@contextlib.contextmanager
def _lock(data_root: Path, sample: int | None) -> Iterator[bool]:
    """Hold the data root's lock, so that no prepare writes meanwhile; yields whether the root is writable."""
    with contextlib.ExitStack() as stack:
        writable = False
        if sample is None and os.access(data_root, os.W_OK):
            with contextlib.suppress(OSError):  # a read-only root can be verified too
                stack.enter_context(folder_lock(data_root, "preparing or verifying"))
                writable = True
        yield writable


def _archives(
    root: Path, checksums: dict[str, str], accepted: dict[str, str], accept: bool, progress: Progress
) -> Iterator[Check]:
    """Check each archive with a known checksum; accepted differences go into `accepted`."""
    if not checksums:
        yield Check("archives", True, "no checksums are known for this data set")
    for name, expected in checksums.items():
        try:
            found = file_checksum(root / name, expected.partition(":")[0], progress)
        except OSError as error:
            yield Check("archive", False, f"cannot read {printable(root / name)}: {error.strerror}")
            continue
        if found == expected:
            accepted.pop(name, None)
            yield Check("archive", True, f"{printable(name)} matches ({found})")
        elif accept or accepted.get(name) == found:
            accepted[name] = found
            yield Check("archive", True, f"{printable(name)} has {found}, not {expected}; accepted, and recorded")
        else:
            yield Check(
                "archive",
                False,
                f"{printable(name)} has {found} instead of {expected}: get it again, or accept it with "
                "--accept-archives",
            )


def _part(index: Index, found: _Findings, near: bool) -> Part:
    """A split for the search for duplicates, ignoring bad images."""
    crc32 = np.array(index.crc32)
    crc32[list(found.crc32)] = list(found.crc32.values())
    crc32[list(found.bad)] = UNKNOWN_CRC
    if not near:
        return Part(index=index, crc32=crc32)
    looks = np.zeros(len(index), np.uint64)
    looks[list(found.looks)] = np.array(list(found.looks.values()), np.uint64)
    return Part(index=index, crc32=crc32, looks=looks)


def _decode(
    index: Index, workers: int, sample: int | None, how: Callable[[Index, int], ImageCheck], progress: Progress
) -> _Findings:
    """Decode the images of `index`; results arrive in any order and are returned in index order."""
    rows = np.arange(len(index)) if sample is None else np.sort(permutation(0, 0, len(index))[:sample])
    found = _Findings(rows=rows)
    done, what = 0, f"decoding {index.info.split}"
    chunks = (rows[at : at + _CHUNK].tolist() for at in range(0, len(rows), _CHUNK))
    start = partial(_open_index, index.path)
    check_rows = partial(_check_rows, how=how)
    try:
        for checked in in_parallel(check_rows, chunks, workers=workers, start=start):
            for i, check in checked:
                found.unusual.update(check.unusual)
                found.changed += check.changed
                if check.reason is not None:
                    found.bad[i] = check.reason
                elif index.crc32[i] == UNKNOWN_CRC or check.changed:
                    found.crc32[i] = check.crc32
                if check.look and check.reason is None:
                    found.looks[i] = check.look
            done += len(checked)
            progress(what, done, len(rows))
    finally:
        _open_index(None)
    found.bad = dict(sorted(found.bad.items()))
    return found


_index: Index | None = None


def _open_index(path: Path | None) -> None:
    global _index
    _index = None if path is None else Index(path, include_quarantined=True)


def _check_rows(rows: list[int], how: Callable[[Index, int], ImageCheck]) -> list[tuple[int, ImageCheck]]:
    assert _index is not None
    return [(i, how(_index, i)) for i in rows]


def _changed(split: str, count: int, accepted: bool) -> str:
    if accepted:
        return f"{counted(count, 'changed image')} of {split} accepted: the CRC of the present bytes is recorded"
    return (
        f"{counted(count, 'image')} of {split} changed since the CRC was recorded, but sound: if the change was "
        "intended, resnetctl verify --accept takes the new bytes"
    )


def _images(index: Index, found: _Findings) -> Check:
    split, total = index.info.split, len(found.rows)
    if not found.bad:
        return Check(f"{split} images", True, f"{total:,} decode")
    names = [index.name(i) for i in found.bad]
    return Check(f"{split} images", False, f"{len(names):,} of {total:,} are bad: {some(names, 3)}")


def _bad_image(index: Index, i: int, reason: str) -> BadImage:
    return BadImage(index.info.split, index.name(i), index.container_name(int(index.container[i])), reason)


def _keep(
    dataset: Dataset, indexes: dict[str, Index], found: dict[str, _Findings], bad: list[BadImage]
) -> tuple[Dataset, list[str]]:
    """Write new CRCs and the quarantine into the indexes; returns the new data set, and remarks on the changes."""
    files, kept = {}, []
    fingerprints, quarantined = dict(dataset.fingerprints), {}
    images = {"train": 0, "val": 0}
    for split, index in indexes.items():
        is_bad = np.zeros(len(index), bool)
        is_bad[list(found[split].bad)] = True
        images[split] = int(len(index) - is_bad.sum())
        if is_bad.any():
            quarantined[split] = int(is_bad.sum())
        was_bad = np.arange(len(index)) >= len(index) - index.quarantined
        if found[split].crc32 or (is_bad != was_bad).any():
            crc32 = np.array(index.crc32)
            crc32[list(found[split].crc32)] = list(found[split].crc32.values())
            info, files[index_path(dataset.root, split)] = with_findings(index, crc32, is_bad)
            fingerprints[split] = info.fingerprint
        released = int((was_bad & ~is_bad).sum())
        if released:
            kept.append(f"{counted(released, 'image')} of {split} sound again and out of quarantine")
        if found[split].crc32:
            kept.append(f"CRCs of {counted(len(found[split].crc32), 'image')} of {split} recorded")
        if is_bad.any():
            kept.append(f"{counted(quarantined[split], 'image')} of {split} in quarantine: train and eval skip them")
        if (is_bad & ~was_bad).any():
            kept.append(
                f"earlier runs need the {split} images that are in quarantine now: "
                "resnetctl prepare --release-quarantined releases them"
            )
    after = replace(
        dataset,
        fingerprints=fingerprints,
        quarantined=quarantined,
        train_images=images["train"],
        val_images=images["val"],
    )
    if files or after != load_dataset(dataset.root):
        write_dataset(after, files, bad)
    return after, kept
