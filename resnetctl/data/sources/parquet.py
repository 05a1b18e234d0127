"""The parquet files of Hugging Face's `ILSVRC/imagenet-1k`: their images are copied into shards once, unchanged.

Columns: `image` (a struct of `bytes` and `path`) and `label`, the position in the sorted list of wnids. The path of a
train image ends in its wnid (`n01440764_10026_n01440764.JPEG`), against which the label is checked.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resnetctl.data import imagenet
from resnetctl.data.archives import MAX_SAMPLE_BYTES
from resnetctl.data.sources import Piece, Sample, Source
from resnetctl.errors import DataError, ResnetctlError, needs_package, printable
from resnetctl.progress import Progress

_FILE = re.compile(r"(train|validation|val)-(\d{5})-of-(\d{5})(?:-[0-9a-f]+)?\.parquet")
_TRAIN_PATH = re.compile(r"(?:.*/)?(n\d{8})_(\d+)(?:_(n\d{8}))?\.JPEG")
_VAL_PATH = re.compile(r"(?:.*/)?(ILSVRC2012_val_(\d{8}))(?:_(n\d{8}))?\.JPEG")
_ROWS = 64


def recognise(path: Path) -> bool:
    """Whether `path`, or data/ inside it, has train parquet files, or is one of them."""
    return bool(_files(path).get("train")) if path.is_dir() else _FILE.fullmatch(path.name) is not None


def _files(path: Path) -> dict[str, list[Path]]:
    """Split to its parquet files, in order, without the test split, whose labels are all -1."""
    found: dict[str, list[Path]] = {}
    for folder in (path, path / "data"):
        for file in sorted(folder.glob("*.parquet")) if folder.is_dir() else []:
            match = _FILE.fullmatch(file.name)
            if match:
                found.setdefault("train" if match[1] == "train" else "val", []).append(file)
        if found:
            break
    return found


def open_source(path: Path, data_root: Path, kind: str, progress: Progress) -> Source:
    """One piece for each file of train and validation; records missing files of a numbered series."""
    path = path.parent if path.is_file() else path
    files = _files(path)
    if "train" not in files:
        raise DataError(
            f"{printable(path)} has no train-*.parquet", hint="see https://huggingface.co/datasets/ILSVRC/imagenet-1k"
        )
    _pyarrow()
    missing = []
    for split, each in files.items():
        numbers = [_FILE.fullmatch(file.name) for file in each]
        wanted = {int(m[3]) for m in numbers if m}
        if len(wanted) > 1 or len({m[2] for m in numbers if m}) < len(each):
            raise DataError(
                f"{printable(each[0].parent)} mixes {split} files of several downloads",
                hint="keep the files of one series, named …-00000-of-NNNNN.parquet",
            )
        absent = sorted(set(range(wanted.pop())) - {int(m[2]) for m in numbers if m})
        if absent:
            missing.append(f"{len(absent)} of the {split} parquet files are missing, the first of them {absent[0]:05d}")
    classes = imagenet.wnids()
    source = Source(
        name=imagenet.NAME,
        root=path,
        classes=classes,
        class_names=imagenet.names_of(classes),
        splits={},
        pieces={split: [ParquetPiece(path=file, split=split) for file in each] for split, each in files.items()},
        published=True,
        missing=missing,
    )
    if "val" not in files:
        source.missing.append("no validation-*.parquet: there is no val split")
    return source


def _pyarrow() -> Any:
    try:
        import pyarrow.parquet
    except ImportError:
        raise needs_package("reading parquet files", "pyarrow", "parquet") from None
    return pyarrow.parquet


@dataclass(frozen=True, kw_only=True)
class ParquetPiece:
    """One parquet file."""

    path: Path
    split: str

    @property
    def bytes(self) -> int:
        """The file's size."""
        return self.path.stat().st_size

    @property
    def origin(self) -> str:
        """The file's name and size."""
        return f"{self.path.name} {self.bytes}"

    def samples(self) -> Iterator[Sample]:
        """The images, a few rows at a time."""
        parquet = _pyarrow()
        try:
            with parquet.ParquetFile(self.path) as file:
                for batch in file.iter_batches(_ROWS, columns=["image", "label"]):
                    for row in batch.to_pylist():
                        yield self._sample(row)
        except ResnetctlError:
            raise
        except Exception as error:  # pyarrow raises its own errors, OSError and ValueError for damaged files
            raise DataError(
                f"{printable(self.path)} cannot be read: {printable(error).splitlines()[0]}",
                hint="get the file again",
            ) from error

    def _sample(self, row: dict[str, Any]) -> Sample:
        classes = imagenet.wnids()
        image, label = row["image"] or {}, row["label"]
        data, path = image.get("bytes"), image.get("path") or ""
        match = (_TRAIN_PATH if self.split == "train" else _VAL_PATH).fullmatch(path)
        if not isinstance(data, bytes) or not isinstance(label, int) or match is None:
            raise DataError(f"{printable(self.path)} has a row that is not an ImageNet image: {printable(path)}")
        if not 0 <= label < len(classes) or len(data) > MAX_SAMPLE_BYTES:
            raise DataError(f"{printable(self.path)}: {printable(path)} has the label {label}, which is not a class")
        wnid = classes[label]
        said = [match[1], match[3] or wnid] if self.split == "train" else [match[3] or wnid]
        if self.split == "val":
            number = int(match[2])
            said.append(classes[imagenet.val_labels()[number - 1]] if 0 < number <= imagenet.VAL_IMAGES else "")
        if any(other != wnid for other in said):
            raise DataError(
                f"{printable(self.path)}: {printable(path)} has the label {label} ({wnid}), which contradicts its name",
                hint="the file was changed or belongs to another data set; download it again",
            )
        name = f"{match[1]}_{match[2]}" if self.split == "train" else match[1]
        return Sample(f"{wnid}/{name}.JPEG", label, data)


_: type[Piece] = ParquetPiece
