"""The errors for a SOURCE that no kind of source recognises."""

from __future__ import annotations

from pathlib import Path

from resnetctl.data import imagenet
from resnetctl.data.sources.class_folders import SUFFIXES, is_hidden
from resnetctl.data.sources.folder import scan
from resnetctl.errors import DataError, counted, printable

_PACKED = (".tgz", ".gz", ".xz", ".bz2", ".zst", ".7z", ".rar")
_ARCHIVES = (*_PACKED, ".tar", ".zip", ".parquet")
_FOLDERS = "give a folder with train/<class>/ and val/<class>/, or one with a folder for each class"
_UNPACK = "unpack it and give the folder, or repack it as a .tar or .zip, which is read in place"
_PUBLISHED = (
    "give one of them; archives other than .zip and .tar are recognised by their published names, "
    "such as imagenette2-160.tgz"
)


def no_such_source(path: Path) -> DataError:
    """The error for a path that does not exist."""
    if str(path).startswith(("http:/", "https:/", "s3:/", "hf:/")):
        return DataError(
            f"{printable(path)} is a URL, but prepare takes files and folders",
            hint="download it first; resnetctl itself downloads --source imagenette and --source imagewoof",
        )
    return DataError(f"{printable(path)} does not exist", hint="check the path")


def unrecognised_source(path: Path, *, given: bool) -> DataError:
    """The error for `path`, which no kind of source recognised; `given`: by the user, rather than the data root."""
    shown = printable(path)
    none = f"no supported data set found in {shown if path.is_absolute() else f'./{shown}'}"
    if not given:
        return DataError(none, hint=imagenet.HOW_TO_GET)
    if path.is_file():
        return _unrecognised_file(path, shown)
    if not path.is_dir():
        return DataError(f"{shown} is neither a file nor a folder", hint=_FOLDERS)
    entries = [entry for entry in scan(path) if not is_hidden(entry.name)]
    folders = [entry.name for entry in entries if entry.is_dir()]
    if not entries:
        return DataError(f"{shown} is empty", hint=imagenet.HOW_TO_GET)
    if "train" in folders:
        return DataError(f"{none}: train/ has no class folders", hint=_FOLDERS)
    if "val" in folders:
        return DataError(f"{none}: it has val/, but no train/", hint=_FOLDERS)
    if folders:
        why = "neither train/ nor images in each of them" if len(folders) > 1 else "it is not train/"
        return DataError(f"{none}: {counted(len(folders), 'folder')}, but {why}", hint=_FOLDERS)
    if any(entry.name.lower().endswith(SUFFIXES) for entry in entries):
        return DataError(f"{none}: images, but no class folders", hint=_FOLDERS)
    archives = any(entry.name.lower().endswith(_ARCHIVES) for entry in entries)
    return DataError(none, hint=_PUBLISHED if archives else imagenet.HOW_TO_GET)


def _unrecognised_file(path: Path, shown: str) -> DataError:
    if path.name.lower().endswith(SUFFIXES):
        return DataError(f"{shown} is a single image", hint=_FOLDERS)
    hint = _UNPACK if path.name.lower().endswith(_PACKED) else _FOLDERS
    return DataError(f"{shown} is not a supported data set", hint=hint)
