"""From a source to the two indexes of a data root, and `dataset.json` written last."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from resnetctl.data import imagenet
from resnetctl.data.dataset import DATASET_FILE, Dataset, created_by, encode_dataset, is_ours, load_dataset
from resnetctl.data.index import SPLITS, Index, IndexBuilder, IndexInfo, index_path
from resnetctl.data.sources import SOURCES, SourceData, source_module
from resnetctl.errors import DataError, ResnetctlError, printable, some
from resnetctl.files import atomic_file, folder_lock, sweep_temporary_files, write_all
from resnetctl.progress import Progress, silent


@dataclass(frozen=True, kw_only=True)
class SplitSummary:
    """What an index holds."""

    split: str
    images: int
    classes: int
    """Classes with at least one image."""
    bytes: int
    """Of the image files, as they lie on the disk."""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What `prepare` did."""

    dataset: Dataset
    splits: tuple[SplitSummary, ...]
    root: Path
    """Where the images lie."""
    notices: tuple[str, ...]
    """What the user should know of it, a sentence each."""
    seconds: float


def prepare(
    data_root: Path,
    source: Path | None = None,
    kind: str | None = None,
    *,
    allow_incomplete: bool = False,
    progress: Progress = silent,
) -> Prepared:
    """Index `source` (default: what `data_root` holds, or what it was prepared from) for training.

    Only `data_root` is written to: the indexes, `dataset.json`, and what the source itself puts there. Raises
    DataError where the source is not recognised, damaged, or not whole (unless `allow_incomplete`), and
    ResnetctlError where another prepare is at work or the data root cannot be written.
    """
    start = time.monotonic()
    source, kind, notices = _find_source(data_root, source, kind)
    with _writing(data_root):
        data_root.mkdir(parents=True, exist_ok=True)
        with folder_lock(data_root, "preparing"):
            sweep_temporary_files(data_root)
            _refuse_foreign_files(data_root)
            held = source_module(kind).open_source(source, data_root)
            builders = _list_samples(held, progress)
            notices += _before(data_root, kind, held.root)
            dataset, splits = _write(data_root, kind, held, builders, _incomplete(held, builders, allow_incomplete))
    notices += held.notes
    seconds = time.monotonic() - start
    return Prepared(dataset=dataset, splits=splits, root=held.root, notices=tuple(notices), seconds=seconds)


def _find_source(data_root: Path, source: Path | None, kind: str | None) -> tuple[Path, str, list[str]]:
    """The path and the kind to prepare, and a notice where more than one kind would do."""
    if source is not None and not source.exists():
        raise DataError(f"there is nothing at {printable(source)}", hint="check the path")
    path = source or data_root
    if kind is not None:
        return path, kind, []
    kinds = [k for k in SOURCES if path.exists() and source_module(k).recognise(path)]
    if len(kinds) > 1:
        others = " and ".join(kinds[1:])
        return path, kinds[0], [f"{printable(path)} was taken as {kinds[0]}; --source would choose {others}"]
    if kinds:
        return path, kinds[0], []
    if source is None and is_ours(data_root / DATASET_FILE):
        return _index_root(data_root) or path, load_dataset(data_root).source, []
    raise DataError(_nothing_found(path, given=source is not None), hint=imagenet.HOW_TO_GET)


def _index_root(data_root: Path) -> Path | None:
    """Where the images of the present train index lie; None without a readable one."""
    with contextlib.suppress(DataError):
        return Index(index_path(data_root, "train")).root
    return None


def _nothing_found(path: Path, *, given: bool) -> str:
    if given and path.is_dir():
        folders = sum(1 for entry in path.iterdir() if entry.is_dir())
        if folders:
            return (
                f"{printable(path)} holds {folders} folders, but neither train/ nor the ImageNet archives; "
                "class folders belong into train/ and val/"
            )
    return f"there is no data set that resnetctl knows in {printable(path)}"


@contextlib.contextmanager
def _writing(data_root: Path) -> Iterator[None]:
    """Say in words that the disk is full or the data root read-only."""
    try:
        yield
    except OSError as error:
        where = printable(error.filename or data_root)
        raise ResnetctlError(
            f"prepare cannot go on: {error.strerror} ({where})",
            hint="free some space, mend the permissions, or choose another data root with --data",
        ) from error


def _refuse_foreign_files(data_root: Path) -> None:
    """Raise DataError where something that is not ours lies where prepare writes."""
    paths = [index_path(data_root, split) for split in SPLITS]
    foreign = [p for p in paths if p.is_symlink() or (p.exists() and not p.is_file())]
    described = data_root / DATASET_FILE
    if described.is_symlink() or (described.exists() and not is_ours(described)):
        foreign.append(described)
    if foreign:
        raise DataError(
            f"{printable(foreign[0])} was not written by resnetctl, and is left alone",
            hint="move it, or choose another data root with --data",
        )


def _list_samples(held: SourceData, progress: Progress) -> dict[str, IndexBuilder]:
    builders = {}
    for split, records in held.splits.items():
        builder = builders[split] = IndexBuilder()
        for record in records(progress):
            builder.add(record)
    return builders


def _incomplete(held: SourceData, builders: dict[str, IndexBuilder], allow: bool) -> str | None:
    """What is missing of the data set, or None; DataError where that is not allowed."""
    problems = list(held.missing)
    for split, builder in builders.items():
        counts = builder.class_counts(len(held.classes))
        problems += _differences(split, held, counts)
    if not problems:
        return None
    text = "; ".join(problems)
    if not allow:
        raise DataError(
            f"the data set is not whole: {text}",
            hint="get what is missing, or add --allow-incomplete to take it as it is (the index records that)",
        )
    return text


def _differences(split: str, held: SourceData, counts: np.ndarray) -> list[str]:
    """Where the images of a split are not those that the source, or else the published ImageNet, promises."""
    if split not in held.expected:
        if held.published:
            return imagenet.differences(split, held.classes, counts)
        empty = [held.classes[i] for i in np.flatnonzero(counts == 0)]
        return [f"{split} has no image of {some(empty)}"] if empty else []
    expected = np.asarray(held.expected[split])
    wrong = np.flatnonzero(counts != expected)
    named = [f"{held.classes[i]} ({counts[i]} of {expected[i]})" for i in wrong]
    return [f"{split} has {counts.sum()} of {expected.sum()} images: {some(named)}"] if named else []


def _before(data_root: Path, kind: str, root: Path) -> list[str]:
    """What this prepare replaces, if that is something else."""
    if not (data_root / DATASET_FILE).exists():
        return []
    try:
        old, old_root = load_dataset(data_root), _index_root(data_root)
    except DataError:
        return []
    if old_root is None or (old.source == kind and old_root == _absolute(root)):
        return []
    return [
        f"this replaces the index of {printable(old.name)} ({old.source}: {old.train_images} train images in "
        f"{printable(old_root)}); the images themselves are untouched"
    ]


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))  # noqa: PTH100 - a link stays a link: the user may point it elsewhere


def _write(
    data_root: Path, kind: str, held: SourceData, builders: dict[str, IndexBuilder], incomplete: str | None
) -> tuple[Dataset, tuple[SplitSummary, ...]]:
    root, here = _absolute(held.root), _absolute(data_root)
    shown_root = str(root.relative_to(here)) if root.is_relative_to(here) else str(root)
    fingerprints, summaries, files = {}, [], {}
    for split, builder in builders.items():
        info = IndexInfo(
            split=split,
            source=kind,
            root=shown_root,
            classes=held.classes,
            class_names=held.class_names,
            incomplete=incomplete,
            notes=tuple(held.notes),
        )
        info, files[index_path(data_root, split)] = builder.encode(info)
        fingerprints[split] = info.fingerprint
        counts = builder.class_counts(len(held.classes))
        summaries.append(
            SplitSummary(split=split, images=len(builder), classes=int((counts > 0).sum()), bytes=builder.total_bytes())
        )
    dataset = Dataset(
        root=data_root,
        name=held.name,
        source=kind,
        recipe=held.recipe,
        classes=len(held.classes),
        train_images=len(builders["train"]),
        val_images=len(builders["val"]) if "val" in builders else 0,
        created_by=created_by(),
        incomplete=incomplete,
        fingerprints=fingerprints,
    )
    _replace_together({data_root / DATASET_FILE: encode_dataset(dataset), **files})
    for split in set(SPLITS) - builders.keys():
        index_path(data_root, split).unlink(missing_ok=True)
    return dataset, tuple(summaries)


def _replace_together(files: dict[Path, bytes]) -> None:
    """Write all, and rename none before all are on the disk; the first is renamed last, and vouches for the others."""
    with contextlib.ExitStack() as stack:
        for path, data in files.items():
            write_all(stack.enter_context(atomic_file(path)), data)
