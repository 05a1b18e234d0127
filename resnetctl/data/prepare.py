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
from resnetctl.data.copies.from_source import Copying, copy, pack_pieces, remove_leftovers
from resnetctl.data.dataset import (
    DATASET_FILE,
    Dataset,
    created_by,
    is_ours,
    load_dataset,
    quarantined_samples,
    write_dataset,
)
from resnetctl.data.index import SPLITS, Index, IndexInfo, index_path
from resnetctl.data.index_writer import IndexBuilder
from resnetctl.data.missing import prepare_hint
from resnetctl.data.quarantine import BadImage, read_quarantine
from resnetctl.data.sources import Source, recognised, source_module
from resnetctl.data.sources.unrecognised import no_such_source, unrecognised_source
from resnetctl.data.val_split import draw_val
from resnetctl.errors import DataError, ResnetctlError, UsageError, counted, printable, some
from resnetctl.files import absolute, folder_lock, sweep_temporary_files
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
            earlier = _earlier(data_root)
            source = source_module(kind).open_source(path, data_root, kind, progress)
            if source.pieces:
                if source.missing and not allow_incomplete:
                    raise _not_whole("; ".join(source.missing))
                source, kind, copying = pack_pieces(data_root, source, copying, progress)
            builders = _list_samples(source, progress)
            split = split or _earlier_split(earlier, kind, source)
            if split:
                _draw(source, builders, split)
            incomplete = _incomplete(source, builders, allow_incomplete)
            if copying.packing or copying.extract:
                source, kind = copy(data_root, kind, source, builders, copying, progress)
                builders, split = _list_samples(source, progress), None
            notices += _before(earlier, kind, source.root)
            dataset, splits = _write(data_root, earlier, kind, source, builders, incomplete, split, release_quarantined)
    if "val" not in builders:
        notices.append(_NO_VAL)
    if release_quarantined and earlier:
        for each, count in earlier.quarantined.items():
            notices.append(f"{counted(count, 'image')} of {each} released from quarantine")
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


def _earlier(data_root: Path) -> Dataset | None:
    """What an earlier prepare made of the data root."""
    with contextlib.suppress(DataError):
        return load_dataset(data_root)
    return None


def _earlier_index(data_root: Path, split: str) -> Index | None:
    with contextlib.suppress(DataError):
        return Index(index_path(data_root, split), include_quarantined=True)
    return None


def _is_same(earlier: Dataset, kind: str, root: Path) -> bool:
    """Whether the data set was prepared from the same images; what follows a dash tells which of a kind's downloads."""
    index = _earlier_index(earlier.root, "train")
    same_kind = earlier.source.partition("-")[0] == kind.partition("-")[0]
    return same_kind and index is not None and absolute(index.root) == absolute(root)


def _earlier_split(earlier: Dataset | None, kind: str, source: Source) -> Split | None:
    """The split drawn in an earlier prepare of the same images, which is kept."""
    if earlier is None or earlier.val_fraction is None or "val" in source.splits:
        return None
    return Split(fraction=earlier.val_fraction, seed=earlier.seed) if _is_same(earlier, kind, source.root) else None


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
    index = _earlier_index(data_root, "train")
    if index is None:
        return data_root
    root = absolute(index.root)
    if not root.exists():
        raise DataError(
            f"{printable(data_root)} was prepared from {printable(root)}, which is gone", hint=prepare_hint(data_root)
        )
    # an archive of any name, perhaps among others
    return absolute(index.container_path(0)) if kind == "archive" else root


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


def _before(earlier: Dataset | None, kind: str, root: Path) -> list[str]:
    """A notice if this prepare replaces the index of something else."""
    index = _earlier_index(earlier.root, "train") if earlier else None
    if earlier is None or index is None or _is_same(earlier, kind, root):
        return []
    return [
        f"this replaces the index of {printable(earlier.name)} ({earlier.source}: {earlier.train_images:,} train "
        f"images in {printable(absolute(index.root))}); the images themselves are untouched"
    ]


def _write(
    data_root: Path,
    earlier: Dataset | None,
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
        infos[split], files[path] = builder.encode(info, _earlier_index(data_root, split), release=release)
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
        accepted={k: v for k, v in earlier.accepted.items() if k in source.checksums} if earlier else {},
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
