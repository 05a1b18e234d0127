"""Image files named on a command line, outside any data set."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from resnetctl.data.sources.class_folders import SUFFIXES
from resnetctl.data.sources.folder import images_below
from resnetctl.errors import DataError, UsageError, printable

_ARCHIVES = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".zst", ".7z", ".rar", ".parquet")
_SCHEMES = ("http", "https", "ftp", "file", "s3", "gs", "hf")
_TEXT = {*range(0x20, 0x7F), *range(0x80, 0x100), *b"\t\n\r\0"}  # \0: between names, from find -print0
_HEAD_BYTES = 1024


def find_images(names: Sequence[str], *, must_exist: bool = True) -> list[str]:
    """The files among `names`, and the images below the folders among them, in the order given, folders sorted.

    Raises UsageError for an archive, a URL or (with `must_exist`) a missing file, and DataError for a folder without
    images.
    """
    found: list[str] = []
    for name in names:
        path = Path(name)
        if name.partition("://")[0].lower() in _SCHEMES and "://" in name:
            raise UsageError(
                f"{printable(name)} is a URL, but predict reads files",
                hint=f"curl -L {printable(name)} | resnetctl predict -",
            )
        if path.is_dir():
            inside = sorted(images_below(path))
            if not inside:
                raise DataError(
                    f"no images found in {printable(name)}", hint=f"files with these endings: {', '.join(SUFFIXES)}"
                )
            found += [os.path.join(name, image) for image in inside]  # noqa: PTH118 - ./a stays as it was given
        elif name.lower().endswith(_ARCHIVES):
            raise UsageError(
                f"{printable(name)} is an archive, but predict reads image files and folders",
                hint="unpack it first; for a data set in archives: resnetctl prepare, then resnetctl eval",
            )
        elif must_exist and not path.exists():
            raise UsageError(f"no such file or folder: {printable(name)}", hint="resnetctl predict IMAGE or FOLDER")
        else:
            found.append(name)
    return found


def read_names(stream: IO[bytes]) -> list[str] | bytes:
    """Read stdin: file names separated by newlines or zero bytes if it is text, else an image's bytes.

    Raises UsageError if it is empty.
    """
    data = stream.read()
    if not data.strip():
        raise UsageError("stdin is empty", hint="ls *.jpg | resnetctl predict -")
    if not set(data[:_HEAD_BYTES]) <= _TEXT:
        return data
    names = data.split(b"\0") if b"\0" in data else data.splitlines()
    return [os.fsdecode(name) for name in names if name.strip()]
