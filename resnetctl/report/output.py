"""Writes a report, replacing only files that are reports of ours."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from resnetctl.errors import UsageError, printable
from resnetctl.files import write_atomically

_HEAD_BYTES = 4096


def check_page(path: Path) -> None:
    """Raise UsageError if a page cannot be written to `path`."""
    if path.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"{printable(path)} is not the name of an HTML file", hint="--out FILE.html")
    if not path.parent.is_dir():
        raise UsageError(f"there is no folder {printable(path.parent)}", hint="make it, or choose another one")
    _check_replaceable(path, "--out")


def check_folder(folder: Path) -> None:
    """Raise UsageError if `folder` is not a folder, or holds a PNG that is not a report's and could be in the way."""
    if not folder.parent.is_dir():
        raise UsageError(f"there is no folder {printable(folder.parent)}", hint="make it, or choose another one")
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{printable(folder)} is a file, and --png needs a folder", hint="choose another name")
    for path in sorted(folder.glob("*.png")) if folder.is_dir() else ():
        _check_replaceable(path, "--png")


def _check_replaceable(path: Path, option: str) -> None:
    if path.is_dir() or (path.exists() and not _is_ours(path)):
        raise UsageError(
            f"{printable(path)} exists and is not a report: it is not replaced",
            hint=f"choose another place with {option}, or move it away",
        )


def _is_ours(path: Path) -> bool:
    """Whether a file names any version of our report as its generator."""
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    marks = (b'<meta name="generator" content="resnetctl ', b"Software\0resnetctl ")
    return any(mark in head for mark in marks)


def write_page(path: Path, page: str) -> None:
    """Write the page, all or nothing. Raises UsageError as `check_page` does."""
    check_page(path)
    write_atomically(path, page)


def write_pictures(folder: Path, pictures: Mapping[str, bytes]) -> None:
    """Write the PNGs into `folder`, creating it. Raises UsageError as `check_folder` does."""
    check_folder(folder)
    folder.mkdir(exist_ok=True)
    for name, data in pictures.items():
        write_atomically(folder / name, data)
