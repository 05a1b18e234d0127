"""Atomic writes, and locks against concurrent writers."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import struct
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from resnetctl.errors import ResnetctlError, UsageError, printable

_TEMP_SUFFIX = ".resnetctl-tmp"
_TEMP_NAME = re.compile(r"\..+\.[a-z0-9_]{8}" + re.escape(_TEMP_SUFFIX))


def trace(line: Callable[[], str]) -> None:
    """Append a line to the file named by RESNETCTL_TRACE, for tests of the order of operations.

    Without that variable `line` is not called.
    """
    path = os.environ.get("RESNETCTL_TRACE")
    if path is not None:
        with open(path, "a", encoding="utf-8") as file:
            file.write(line() + "\n")


def absolute(path: Path) -> Path:
    """`path` as an absolute path."""
    return Path(os.path.abspath(path))  # noqa: PTH100 - a link stays a link: the user may point it elsewhere


def fsync_folder(folder: Path) -> None:
    """Make renames inside `folder` survive a power cut."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _file_mode() -> int:
    """0644 minus the umask."""
    umask = os.umask(0)
    os.umask(umask)
    return 0o644 & ~umask


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[int]:
    """Yield the descriptor of a temporary file in `path`'s folder; on leaving, sync it and rename it to `path`.

    On any exception the temporary file is removed and `path` is unchanged. The file gets mode 0644 minus the umask.
    """
    fd, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=_TEMP_SUFFIX, dir=path.parent)
    temp = Path(name)
    try:
        os.fchmod(fd, _file_mode())
        yield fd
        os.fsync(fd)
        os.close(fd)
        fd = -1
        temp.replace(path)
        fsync_folder(path.parent)
    except BaseException:
        if fd >= 0:
            os.close(fd)
        temp.unlink(missing_ok=True)
        raise


def write_all(fd: int, data: bytes | memoryview) -> None:
    """`os.write` until all of `data` is written; a full disk raises OSError."""
    view = memoryview(data).cast("B")
    while view:
        view = view[os.write(fd, view[: 1 << 30]) :]


def write_atomically(path: Path, data: bytes | str) -> None:
    """Replace `path` by `data`, all or nothing."""
    with atomic_file(path) as fd:
        write_all(fd, data.encode() if isinstance(data, str) else data)


def check_new_file(path: Path) -> None:
    """Raise UsageError if there is something at `path`, or no folder to write it to: before long work for its sake."""
    if path.exists():
        raise UsageError(f"there is already a file {printable(path)}", hint="choose another name, or remove it")
    if not path.parent.is_dir():
        raise UsageError(f"there is no folder {printable(path.parent)}", hint="create it, or choose another one")


@contextlib.contextmanager
def staged(path: Path) -> Iterator[Path]:
    """Yield a path at which to make a file or a folder, for those that want a path; on leaving, it becomes `path`.

    It has the same name, in a temporary folder beside `path`; folders left by killed writers are removed. What
    was there before is replaced, including all of a folder. On any exception nothing has changed. Files get mode 0644
    minus the umask.
    """
    _sweep_staged(path)
    scratch_folder = tempfile.TemporaryDirectory(prefix=f".{path.name}.", suffix=_TEMP_SUFFIX, dir=path.parent)
    with scratch_folder as scratch, _in_use(Path(scratch)):
        made, before = Path(scratch) / path.name, Path(scratch) / "before"
        yield made
        for part in (made, *made.rglob("*")):
            fd = os.open(part, os.O_RDONLY)
            try:
                if part.is_file():
                    os.fchmod(fd, _file_mode())
                os.fsync(fd)
            finally:
                os.close(fd)
        if path.is_dir():
            path.rename(before)
        try:
            made.replace(path)
        except OSError:
            if before.is_dir():
                before.rename(path)
            raise
        fsync_folder(path.parent)


@contextlib.contextmanager
def _in_use(folder: Path) -> Iterator[bool]:
    """Hold a lock on `folder` itself until the process ends; yields False if that is impossible."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # another process has it, or the file system has no such locks
            yield False
        else:
            yield True
    finally:
        os.close(fd)


def _sweep_staged(path: Path) -> None:
    """Remove temporary folders of `path` that no process holds."""
    name = re.compile(re.escape(f".{path.name}.") + r"[a-z0-9_]{8}" + re.escape(_TEMP_SUFFIX))
    for entry in path.parent.iterdir():
        if name.fullmatch(entry.name) and entry.is_dir() and not entry.is_symlink():
            with contextlib.suppress(OSError), _in_use(entry) as dead:
                if dead:
                    shutil.rmtree(entry)


def sweep_temporary_files(folder: Path) -> None:
    """Remove a killed writer's temporary files from `folder`; call it only under the folder's lock."""
    for entry in folder.iterdir():
        if _TEMP_NAME.fullmatch(entry.name) and entry.is_file() and not entry.is_symlink():
            entry.unlink(missing_ok=True)


@contextlib.contextmanager
def folder_lock(folder: Path, doing: str) -> Iterator[None]:
    """Hold the exclusive writer's lock on `folder`; it is released when the process ends, however that happens.

    A POSIX record lock: unlike flock's it is not inherited by forked loader workers, which outlive a killed trainer.

    Raises ResnetctlError if another process holds it.
    """
    fd = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            raise ResnetctlError(
                f"another resnetctl is {doing} in {printable(folder)}",
                hint="wait for it to finish, or stop it first",
            ) from None
        yield
    finally:
        os.close(fd)


# struct flock: Linux has type, whence, start, length, process; macOS start, length, process, type, whence
_FLOCK, _FLOCK_TYPE = ("qqihh", 3) if sys.platform == "darwin" else ("hhqqi0q", 0)


def is_locked(folder: Path) -> bool:
    """Whether another process holds `folder_lock` on `folder`, without taking the lock even briefly."""
    try:
        fd = os.open(folder / ".lock", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        wanted = [0] * 5
        wanted[_FLOCK_TYPE] = fcntl.F_WRLCK
        answer = fcntl.fcntl(fd, fcntl.F_GETLK, struct.pack(_FLOCK, *wanted))
    finally:
        os.close(fd)
    return bool(struct.unpack(_FLOCK, answer)[_FLOCK_TYPE] != fcntl.F_UNLCK)
