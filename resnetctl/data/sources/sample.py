"""The bundled sample: a balanced part of Fashion-MNIST (see `data/sample/ORIGIN.md`)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from resnetctl.data.archives.zip import zip_members
from resnetctl.data.index import Record
from resnetctl.data.sources import Source
from resnetctl.errors import DataError, printable
from resnetctl.files import sweep_temporary_files, write_atomically
from resnetctl.progress import Progress

_CLASSES = {
    "0-t-shirt-top": "T-shirt/top",
    "1-trouser": "trouser",
    "2-pullover": "pullover",
    "3-dress": "dress",
    "4-coat": "coat",
    "5-sandal": "sandal",
    "6-shirt": "shirt",
    "7-sneaker": "sneaker",
    "8-bag": "bag",
    "9-ankle-boot": "ankle boot",
}
_PER_CLASS = {"train": 200, "val": 50}
_SIDE = 28  # every image is 28 × 28
_FOLDER = "sample"  # inside the data root
_BUNDLED = Path(__file__).parent.parent / "sample"


def recognise(path: Path) -> bool:
    """Never: the sample is requested by name."""
    return False


def open_source(path: Path, data_root: Path, kind: str, progress: Progress) -> Source:
    """Copy the bundled archives, with their licence, into `data_root` and open them; `path` is not read."""
    _copy_to(data_root / _FOLDER)
    return Source(
        name="fashion-mnist-sample",
        root=data_root,
        classes=tuple(_CLASSES),
        class_names=tuple(_CLASSES.values()),
        splits={split: partial(_records, data_root, split) for split in _PER_CLASS},
        expected={split: [count] * len(_CLASSES) for split, count in _PER_CLASS.items()},
        recipe="tiny",
    )


def _copy_to(folder: Path) -> None:
    files = {folder / origin.name: origin.read_bytes() for origin in sorted(_BUNDLED.iterdir())}
    there = [path for path in (folder, *files) if path.is_symlink() or path.exists()]
    for path in there:
        fits = path.is_dir() if path == folder else path.is_file() and path.read_bytes() == files[path]
        if path.is_symlink() or not fits:
            raise DataError(
                f"{printable(path)} is in the way: it is not the bundled file",
                hint="move it, or choose another data root with --data",
            )
    folder.mkdir(exist_ok=True)
    sweep_temporary_files(folder)
    for path, data in files.items():
        if path not in there:
            write_atomically(path, data)


def _records(data_root: Path, split: str, progress: Progress) -> Iterator[Record]:
    archive = f"{_FOLDER}/{split}.zip"
    labels = {folder: label for label, folder in enumerate(_CLASSES)}
    total = len(_CLASSES) * _PER_CLASS[split]
    for done, m in enumerate(zip_members(data_root / archive), 1):
        label = labels[m.name.partition("/")[0]]
        yield Record(m.name, archive, m.offset, m.length, label, _SIDE, _SIDE, m.method, m.crc32, m.size)
        progress(f"indexing {split}", done, total)
