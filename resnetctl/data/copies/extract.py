"""The classic tree, one file per image: `train/<class>/<file>` and `val/<class>/<file>`.

Paths are built from the index's names, checked, and opened folder by folder without following links: nothing is
written outside the data root. Files appear whole or not at all, so a killed extraction continues where it stopped.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from resnetctl.data.index import Index
from resnetctl.errors import DataError, printable
from resnetctl.files import write_all
from resnetctl.parallel import advance, in_parallel
from resnetctl.progress import Progress

_CHUNK = 256
_MB = 1_000_000
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, kw_only=True)
class _Job:
    index: Path
    target: Path
    split: str
    start: int
    stop: int


def extract(data_root: Path, indexes: Mapping[str, Path], workers: int, progress: Progress) -> None:
    """Write every image of `indexes` (split to index file) below `data_root`, unless it is there already.

    Raises DataError if an image cannot be read or something else has its name; the caller holds the lock.
    """
    jobs, total = [], 0
    for split, path in indexes.items():
        index = Index(path)
        total += int(index.size.sum())
        for name in index.info.classes:  # including empty ones: a label is the position among all
            with _folder(data_root, parts_of(f"{split}/{name}")):
                pass
        jobs += [
            _Job(index=path, target=data_root, split=split, start=start, stop=min(start + _CHUNK, len(index)))
            for start in range(0, len(index), _CHUNK)
        ]

    def tell(done: int) -> None:
        progress("extracting (MB)", done // _MB, total // _MB)

    for _ in in_parallel(_write_files, jobs, workers=workers, tell=tell):
        pass
    tell(total)
    os.sync()  # a sync for each of a million files would take hours


def _write_files(job: _Job) -> None:
    index = Index(job.index)
    for i in range(job.start, job.stop):
        size = int(index.size[i])
        write_file(job.target, f"{job.split}/{index.name(i)}", index, i, size)
        advance(size)


def write_file(root: Path, relative: str, index: Index, i: int, size: int) -> None:
    """Write sample i to `root`/`relative`, unless a file of its size is there already."""
    *folders, name = parts_of(relative)
    with _folder(root, folders) as fd:
        if not _is_there(name, fd, size, root / relative):
            _write(name, fd, index.read(i))


@contextlib.contextmanager
def _folder(root: Path, folders: list[str]) -> Iterator[int]:
    """A descriptor of the folder at the path `folders` below `root`, created if missing."""
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for folder in folders:
            with contextlib.suppress(FileExistsError):
                os.mkdir(folder, 0o755, dir_fd=fd)
            inner = _open_folder(folder, fd, root.joinpath(*folders))
            os.close(fd)
            fd = inner
        yield fd
    finally:
        os.close(fd)


def parts_of(relative: str) -> list[str]:
    """The parts of a path inside a data root. Raises DataError if one of them would lead elsewhere."""
    parts = relative.split("/")
    if any(part in ("", ".", "..") or "\0" in part for part in parts):
        raise DataError(f"{printable(relative)} is not a safe file name")
    return parts


def _open_folder(name: str, above: int, path: Path) -> int:
    try:
        return os.open(name, _FOLDER, dir_fd=above)
    except OSError as error:
        raise DataError(
            f"cannot write {printable(path)}: {printable(name)} is not a folder that resnetctl made ({error.strerror})",
            hint="remove the link or file of that name, or choose another data root with --data",
        ) from error


def _is_there(name: str, folder: int, size: int, path: Path) -> bool:
    try:
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    if status.st_size == size and stat.S_ISREG(status.st_mode):
        return True
    raise DataError(
        f"{printable(path)} already exists and is not the image that belongs there",
        hint="move it, or choose another data root with --data",
    )


def _write(name: str, folder: int, data: bytes) -> None:
    temporary = f".{name[:200]}.resnetctl-tmp"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary, dir_fd=folder)
    fd = os.open(temporary, _NEW, 0o644, dir_fd=folder)
    try:
        write_all(fd, data)
    finally:
        os.close(fd)
    os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
