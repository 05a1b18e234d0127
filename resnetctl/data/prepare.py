"""From a source to the two indexes of a data root, and `dataset.json` written last."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from resnetctl.container import owner_hint
from resnetctl.data import imagenet
from resnetctl.data.copies.from_source import Copying, absolute, copy, pack_pieces, remove_leftovers
from resnetctl.data.dataset import (
    DATASET_FILE,
    Dataset,
    created_by,
    encode_dataset,
    is_ours,
    load_dataset,
    quarantined_samples,
)
from resnetctl.data.index import SPLITS, Index, IndexInfo, index_path
from resnetctl.data.index_writer import IndexBuilder
from resnetctl.data.missing import prepare_hint
from resnetctl.data.quarantine import BadImage, encode_quarantine, quarantine_path, read_quarantine
from resnetctl.data.sources import Source, recognised, source_module
from resnetctl.data.sources.unrecognised import no_such_source, unrecognised_source
from resnetctl.data.val_split import draw_val
from resnetctl.errors import DataError, ResnetctlError, UsageError, counted, printable, some
from resnetctl.files import atomic_file, folder_lock, sweep_temporary_files, write_all
from resnetctl.progress import Progress, silent


@dataclass(frozen=True, kw_only=True)
class SplitSummary:
    """The content of an index."""

    split: str
    images: int
    classes: int
    """Classes with at least one image."""
    bytes: int
    """Of the image files on disk."""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """The result of `prepare`."""

    dataset: Dataset
    splits: tuple[SplitSummary, ...]
    root: Path
    """The folder of the images."""
    notices: tuple[str, ...]
    """Remarks for the user, a sentence each."""
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Split:
    """How to draw val from the train images, if the source has no val."""

    fraction: float
    seed: int = 0


def prepare(
    data_root: Path,
    path: Path | None = None,
    kind: str | None = None,
    *,
    allow_incomplete: bool = False,
    split: Split | None = None,
    copying: Copying | None = None,
    release_quarantined: bool = False,
    progress: Progress = silent,
) -> Prepared:
    """Index the data set at `path` (default: the one in `data_root`, or the one it was prepared from) for training.

    Only `data_root` is written to: the indexes, `dataset.json`, files of the source itself, and the shards or class
    folders of `copying`. Findings of an earlier verify on the same images are kept, except the quarantine with
    `release_quarantined`. Raises DataError if the source is not recognised, damaged, or incomplete (unless
    `allow_incomplete`), and ResnetctlError if another prepare is running or the data root cannot be written.
    """
    start = time.monotonic()
    copying = copying or Copying()
    path, kind, notices = _find_source(data_root, path, kind)
    with _writing(data_root):
        data_root.mkdir(parents=True, exist_ok=True)
        with folder_lock(data_root, "preparing"):
            sweep_temporary_files(data_root)
            remove_leftovers(data_root)
            _refuse_foreign_files(data_root)
            source = source_module(kind).open_source(path, data_root, kind, progress)
            if source.pieces:
                if source.missing and not allow_incomplete:
                    raise _not_whole("; ".join(source.missing))
                source, kind, copying = pack_pieces(data_root, source, copying, progress)
            builders = _list_samples(source, progress)
            split = split or _earlier_split(data_root, kind, source)
            if split:
                _draw(source, builders, split)
            incomplete = _incomplete(source, builders, allow_incomplete)
            if copying.packing or copying.extract:
                source, kind = copy(data_root, kind, source, builders, copying, progress)
                builders, split = _list_samples(source, progress), None
            notices += _before(data_root, kind, source.root)
            quarantined = _quarantined(data_root) if release_quarantined else {}
            dataset, splits = _write(data_root, kind, source, builders, incomplete, split, release_quarantined)
    if "val" not in builders:
        notices.append(_NO_VAL)
    notices += [f"{counted(count, 'image')} of {each} released from quarantine" for each, count in quarantined.items()]
    for each, count in dataset.quarantined.items():
        notices.append(
            f"{counted(count, 'image')} of {each} in quarantine, left out: {some(quarantined_samples(dataset, each))}; "
            "resnetctl verify checks them again"
        )
    notices += source.notes
    seconds = time.monotonic() - start
    return Prepared(dataset=dataset, splits=splits, root=source.root, notices=tuple(notices), seconds=seconds)


_NO_VAL = (
    "no val split: training is possible, evaluation is not; --val-fraction 0.1 takes a tenth of the train images for it"
)


def _draw(source: Source, builders: dict[str, IndexBuilder], split: Split) -> None:
    """Divide the train images and note it; the expected counts of each split are no longer known."""
    if "val" in builders:
        raise UsageError("this data set has its own val split", hint="leave out --val-fraction")
    builders["train"], builders["val"] = draw_val(builders["train"], source.classes, split.fraction, split.seed)
    share = f"{100 * split.fraction:g} % of the train images of each class"
    source.notes.append(f"val: {share}, drawn with seed {split.seed}")


def _earlier_split(data_root: Path, kind: str, source: Source) -> Split | None:
    """The split drawn in an earlier prepare of the same images, which is kept."""
    with contextlib.suppress(DataError):
        old = load_dataset(data_root)
        same = _same_kind(old.source, kind) and _index_root(data_root) == absolute(source.root)
        if same and old.val_fraction is not None and "val" not in source.splits:
            return Split(fraction=old.val_fraction, seed=old.seed)
    return None


def _find_source(data_root: Path, source: Path | None, kind: str | None) -> tuple[Path, str, list[str]]:
    """The path and the kind to prepare, and a notice if more than one kind fits."""
    if source is not None and not source.exists():
        raise no_such_source(source)
    path = source or data_root
    if kind is not None:
        return path, kind, []
    kinds = recognised(path) if path.exists() else []
    if len(kinds) > 1:
        others = " and ".join(kinds[1:])
        return path, kinds[0], [f"{printable(path)} was taken as {kinds[0]}; --source can make it {others}"]
    if kinds:
        return path, kinds[0], []
    if source is None and is_ours(data_root / DATASET_FILE):
        kind = load_dataset(data_root).source
        return _earlier_source(data_root, kind), kind, []
    raise unrecognised_source(path, given=source is not None)


def _earlier_source(data_root: Path, kind: str) -> Path:
    """The images that `data_root` was prepared from. Raises DataError if they are gone."""
    try:
        index = Index(index_path(data_root, "train"), include_quarantined=True)
    except DataError:
        return data_root
    root = absolute(index.root)
    if not root.exists():
        raise DataError(
            f"{printable(data_root)} was prepared from {printable(root)}, which is gone", hint=prepare_hint(data_root)
        )
    # an archive of any name, perhaps among others
    return absolute(index.container_path(0)) if kind == "archive" else root


def _index_root(data_root: Path) -> Path | None:
    """The folder of the present train index's images; None without a readable index."""
    with contextlib.suppress(DataError):
        return absolute(Index(index_path(data_root, "train")).root)
    return None


@contextlib.contextmanager
def _writing(data_root: Path) -> Iterator[None]:
    """Turn OSErrors, such as a full disk or a read-only data root, into a ResnetctlError."""
    try:
        yield
    except OSError as error:
        where = printable(error.filename or data_root)
        raise ResnetctlError(
            f"prepare failed: {error.strerror} ({where})",
            hint=owner_hint(error)
            or "free some space, change the permissions, or choose another data root with --data",
        ) from error


def _refuse_foreign_files(data_root: Path) -> None:
    """Raise DataError if another program's files are where prepare writes."""
    paths = [index_path(data_root, split) for split in SPLITS]
    foreign = [p for p in paths if p.is_symlink() or (p.exists() and not p.is_file())]
    described = data_root / DATASET_FILE
    if described.is_symlink() or (described.exists() and not is_ours(described)):
        foreign.append(described)
    if foreign:
        raise DataError(
            f"{printable(foreign[0])} was not written by resnetctl and is not replaced",
            hint="move it, or choose another data root with --data",
        )


def _list_samples(source: Source, progress: Progress) -> dict[str, IndexBuilder]:
    builders = {}
    for split, records in source.splits.items():
        builder = builders[split] = IndexBuilder()
        for record in records(progress):
            builder.add(record)
    return builders


def _incomplete(source: Source, builders: dict[str, IndexBuilder], allow: bool) -> str | None:
    """What the data set is missing, or None; DataError if that is not allowed."""
    problems = list(source.missing)
    for split, builder in builders.items():
        counts = builder.class_counts(len(source.classes))
        problems += _differences(split, source, counts)
    if not problems:
        return None
    text = "; ".join(problems)
    if not allow:
        raise _not_whole(text)
    return text


def _not_whole(text: str) -> DataError:
    return DataError(
        f"the data set is incomplete: {text}",
        hint="get the missing files, or accept it with --allow-incomplete (the index records that)",
    )


def _differences(split: str, source: Source, counts: np.ndarray) -> list[str]:
    """How the images of a split differ from those that the source, or the published ImageNet, should have."""
    classes = source.classes
    if split in source.expected:
        expected = np.asarray(source.expected[split])
        named = [f"{classes[i]} ({counts[i]:,} of {expected[i]:,})" for i in np.flatnonzero(counts != expected)]
        if named:
            return [f"{split} has {counts.sum():,} of {expected.sum():,} images: {some(named)}"]
    if source.published:
        return imagenet.differences(split, classes, counts)
    empty = [classes[i] for i in np.flatnonzero(counts == 0)]
    return [f"{split} has no images of {some(empty)}"] if empty and split not in source.expected else []


def _same_kind(one: str, other: str) -> bool:
    """Whether they are the same kind of source; the part after a dash says which of its downloads."""
    return one.partition("-")[0] == other.partition("-")[0]


def _before(data_root: Path, kind: str, root: Path) -> list[str]:
    """A notice if this prepare replaces the index of something else."""
    if not (data_root / DATASET_FILE).exists():
        return []
    try:
        old, old_root = load_dataset(data_root), _index_root(data_root)
    except DataError:
        return []
    if old_root is None or (_same_kind(old.source, kind) and old_root == absolute(root)):
        return []
    return [
        f"this replaces the index of {printable(old.name)} ({old.source}: {old.train_images:,} train images in "
        f"{printable(old_root)}); the images themselves are untouched"
    ]


def _quarantined(data_root: Path) -> dict[str, int]:
    """Split to the number of images that an earlier verify quarantined."""
    with contextlib.suppress(DataError):
        return load_dataset(data_root).quarantined
    return {}


def _write(
    data_root: Path,
    kind: str,
    source: Source,
    builders: dict[str, IndexBuilder],
    incomplete: str | None,
    drawn: Split | None,
    release: bool,
) -> tuple[Dataset, tuple[SplitSummary, ...]]:
    """Write the indexes and `dataset.json`, keeping earlier findings of `verify` on the same samples."""
    root, here = absolute(source.root), absolute(data_root)
    shown_root = str(root.relative_to(here)) if root.is_relative_to(here) else str(root)
    infos, summaries, files = {}, [], {}
    for split, builder in builders.items():
        info = IndexInfo(
            split=split,
            source=kind,
            root=shown_root,
            classes=source.classes,
            class_names=source.class_names,
            incomplete=incomplete,
            notes=tuple(source.notes),
        )
        path = index_path(data_root, split)
        infos[split], files[path] = builder.encode(info, _earlier_index(path), release=release)
        counts = builder.class_counts(len(source.classes))
        summaries.append(
            SplitSummary(split=split, images=len(builder), classes=int((counts > 0).sum()), bytes=builder.total_bytes())
        )
    quarantined = {split: len(info.quarantined) for split, info in infos.items() if info.quarantined}
    images = {split: len(builder) - quarantined.get(split, 0) for split, builder in builders.items()}
    dataset = Dataset(
        root=data_root,
        name=source.name,
        source=kind,
        recipe=source.recipe,
        classes=len(source.classes),
        train_images=images.get("train", 0),
        val_images=images.get("val", 0),
        created_by=created_by(),
        incomplete=incomplete,
        fingerprints={split: info.fingerprint for split, info in infos.items()},
        quarantined=quarantined,
        val_fraction=drawn.fraction if drawn else None,
        seed=drawn.seed if drawn else 0,
        checksums=source.checksums,
        accepted=_accepted(data_root, source),
    )
    write_dataset(dataset, files, _still_bad(data_root, infos, builders))
    return dataset, tuple(summaries)


def _still_bad(data_root: Path, infos: Mapping[str, IndexInfo], builders: Mapping[str, IndexBuilder]) -> list[BadImage]:
    """The entries of the quarantine list that still hold."""
    bad = []
    for split, info in infos.items():
        listed = [each for each in read_quarantine(data_root) if each.split == split]
        if len(listed) != len(info.quarantined):  # some changed or are gone
            names = sorted((label, os.fsencode(name)) for name, label in builders[split].names_and_labels())
            still = {os.fsdecode(names[i][1]) for i in info.quarantined}
            listed = [each for each in listed if each.name in still]
        bad += listed
    return bad


def _earlier_index(path: Path) -> Index | None:
    with contextlib.suppress(DataError):
        return Index(path, include_quarantined=True)
    return None


def _accepted(data_root: Path, source: Source) -> dict[str, str]:
    """The archives accepted earlier with a checksum other than the published one."""
    with contextlib.suppress(DataError):
        return {k: v for k, v in load_dataset(data_root).accepted.items() if k in source.checksums}
    return {}


def write_dataset(dataset: Dataset, indexes: Mapping[Path, bytes], bad: list[BadImage]) -> None:
    """Replace `dataset.json`, the indexes and the quarantine list together, and remove obsolete ones.

    Nothing is renamed before everything is on disk, and `dataset.json` is renamed last: it vouches for the indexes.
    """
    files = {dataset.root / DATASET_FILE: encode_dataset(dataset)}
    if bad:
        files[quarantine_path(dataset.root)] = encode_quarantine(bad)
    _replace_together({**files, **indexes})
    if not bad:
        quarantine_path(dataset.root).unlink(missing_ok=True)
    for split in set(SPLITS) - dataset.fingerprints.keys():
        index_path(dataset.root, split).unlink(missing_ok=True)


def _replace_together(files: dict[Path, bytes]) -> None:
    """Write all files before renaming any; the first is renamed last, and vouches for the others."""
    with contextlib.ExitStack() as stack:
        for path, data in files.items():
            write_all(stack.enter_context(atomic_file(path)), data)
