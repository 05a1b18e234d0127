"""The data set of a data root: `dataset.json`, which `prepare` writes last, and the two indexes it vouches for."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from resnetctl.data.index import SPLITS, Index, index_path
from resnetctl.data.quarantine import BadImage, encode_quarantine, quarantine_path
from resnetctl.errors import DataError, cannot_read, printable
from resnetctl.files import atomic_file, write_all
from resnetctl.typed_json import decode, encode, parse

DATASET_FILE = "dataset.json"
_OURS = "resnetctl "
_PREPARE = "run: resnetctl prepare"


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """What `prepare` made of a data root."""

    root: Path = field(metadata={"json": None})
    """The data root: the folder with `dataset.json` and the indexes."""
    name: str
    """What the data set is called, such as `imagenet-1k` or the name of its folder."""
    source: str
    """The kind of source, as `prepare --source` names it."""
    recipe: str | None
    """The recipe made for it, or None to choose by the size of the images and of the set."""
    classes: int
    train_images: int = field(metadata={"json": "train"})
    val_images: int = field(metadata={"json": "val"})
    """0 where there is no val split."""
    created_by: str
    """`resnetctl` and its version."""
    incomplete: str | None
    """What was missing when `--allow-incomplete` let it pass; None for a whole data set."""
    fingerprints: dict[str, str]
    """Split to the fingerprint of its index, which reveals an index from another prepare."""
    quarantined: dict[str, int] = field(default_factory=dict)
    """Split to the number of images in quarantine, which `train_images` and `val_images` do not count."""
    val_fraction: float | None = None
    """The fraction of the train images drawn for val, if the source has no val split."""
    seed: int = 0
    """Of the draw of `val_fraction`."""
    checksums: dict[str, str] = field(default_factory=dict)
    """File below the images' root to its expected checksum, such as `md5:…`."""
    accepted: dict[str, str] = field(default_factory=dict)
    """File to its actual checksum, where one that differs from the expected was accepted."""

    def train(self) -> Index:
        """The train index, mapped."""
        return self.open("train")

    def val(self) -> Index:
        """The val index, mapped. Raises DataError if the data set has none."""
        return self.open("val")

    def open(self, split: str, *, include_quarantined: bool = False) -> Index:
        """The index of `split`, mapped; DataError if it is missing or belongs to another prepare.

        `include_quarantined`: including images in quarantine.
        """
        if split not in self.fingerprints:
            raise DataError(
                f"the data set in {printable(self.root)} has no {split} split",
                hint=f"add {split}/ with the same class folders, then {_PREPARE}"
                + ("; or take a tenth of the train images: resnetctl prepare --val-fraction 0.1" * (split == "val")),
            )
        index = Index(index_path(self.root, split), include_quarantined=include_quarantined)
        if index.info.fingerprint != self.fingerprints[split]:
            raise DataError(
                f"{printable(index.path)} is not the index that {DATASET_FILE} was written with",
                hint=f"prepare was interrupted; {_PREPARE}",
            )
        return index


def quarantined_samples(dataset: Dataset, split: str) -> list[str]:
    """Names of the quarantined samples of `split`. Raises DataError as `Dataset.open` does."""
    index = dataset.open(split, include_quarantined=True)
    return [index.name(i) for i in range(len(index) - index.quarantined, len(index))]


def is_ours(path: Path) -> bool:
    """Whether the file at `path` is a `dataset.json` written by resnetctl (other programs use the name too)."""
    try:
        return _is_ours(parse(path.read_bytes(), "it"))
    except (OSError, ValueError):
        return False


def _is_ours(content: Any) -> bool:
    return isinstance(content, dict) and str(content.get("created_by", "")).startswith(_OURS)


def created_by() -> str:
    """The value of `created_by` in this version's files."""
    from resnetctl import __version__

    return _OURS + __version__


def load_dataset(data_root: Path) -> Dataset:
    """Read `dataset.json` of `data_root`. Raises DataError if it is missing, damaged or another program's."""
    path = data_root / DATASET_FILE
    try:
        content = parse(path.read_bytes(), "it")
        if not _is_ours(content):
            raise DataError(
                f"{printable(path)} was not written by resnetctl",
                hint="choose another data root with --data, and run resnetctl prepare SOURCE --data ROOT",
            )
        return decode(Dataset, content, "it", root=data_root)
    except FileNotFoundError:
        hint = f"{_PREPARE} SOURCE (--source sample, without SOURCE: images that come with resnetctl)"
        raise DataError(f"no data set is prepared in {printable(data_root)}", hint=hint) from None
    except OSError as error:
        raise cannot_read(path, error) from error
    except DataError:
        raise
    except ValueError as error:
        raise DataError(f"{printable(path)} is damaged: {printable(error)}", hint=_PREPARE) from error


def encode_dataset(dataset: Dataset) -> bytes:
    """The content of `dataset.json`."""
    return (json.dumps(encode(dataset), indent=2) + "\n").encode()


def write_dataset(dataset: Dataset, indexes: Mapping[Path, bytes], bad: list[BadImage]) -> None:
    """Replace `dataset.json`, the indexes and the quarantine list together, and remove obsolete ones.

    Nothing is renamed before everything is on disk, and `dataset.json` is renamed last: it vouches for the indexes.
    """
    listed = quarantine_path(dataset.root)
    files = {dataset.root / DATASET_FILE: encode_dataset(dataset)}
    if bad:
        files[listed] = encode_quarantine(bad)
    with contextlib.ExitStack() as stack:  # renames the first file last
        for path, data in {**files, **indexes}.items():
            write_all(stack.enter_context(atomic_file(path)), data)
    if not bad:
        listed.unlink(missing_ok=True)
    for split in set(SPLITS) - dataset.fingerprints.keys():
        index_path(dataset.root, split).unlink(missing_ok=True)
