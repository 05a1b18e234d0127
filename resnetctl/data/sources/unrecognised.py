"""What to say of a SOURCE that is nothing resnetctl knows."""

from __future__ import annotations

from pathlib import Path

from resnetctl.data import imagenet
from resnetctl.data.sources.folder import SUFFIXES, scan
from resnetctl.errors import DataError, printable

_ARCHIVES = (".tar", ".tgz", ".gz", ".zip", ".xz", ".bz2", ".7z", ".rar", ".parquet")
_FOLDERS = "give a folder with train/<class>/ and val/<class>/, or one with a folder for each class"
_PUBLISHED = (
    "archives are known by the names under which they are published, such as ILSVRC2012_img_train.tar, "
    "imagenet-object-localization-challenge.zip or imagenette2-160.tgz; unpack others, and give the folder"
)


def no_such_source(path: Path) -> DataError:
    """The error for a path where there is nothing."""
    if str(path).startswith(("http:/", "https:/", "s3:/", "hf:/")):
        return DataError(
            f"{printable(path)} is an address, and prepare takes files and folders",
            hint="download it first; --source imagenette and imagewoof are downloaded by resnetctl",
        )
    return DataError(f"there is nothing at {printable(path)}", hint="check the path")


def unrecognised_source(path: Path, *, given: bool) -> DataError:
    """The error for `path`, which no kind of source recognised; `given`: it was named, and is not the data root."""
    shown = printable(path)
    if not given:
        return DataError(f"there is no data set that resnetctl knows in {shown}", hint=imagenet.HOW_TO_GET)
    if path.is_file():
        if path.suffix.lower() in SUFFIXES:
            return DataError(f"{shown} is a single image", hint=_FOLDERS)
        hint = _PUBLISHED if path.suffix.lower() in _ARCHIVES else _FOLDERS
        return DataError(f"{shown} is a file that resnetctl does not know", hint=hint)
    if not path.is_dir():
        return DataError(f"{shown} is neither a file nor a folder", hint=_FOLDERS)
    entries = [entry for entry in scan(path) if not entry.name.startswith(".")]
    folders = [entry.name for entry in entries if entry.is_dir()]
    if not entries:
        return DataError(f"{shown} is empty", hint=imagenet.HOW_TO_GET)
    if "train" not in folders and "val" in folders:
        return DataError(f"{shown} has a val/ folder, but no train/", hint=_FOLDERS)
    if folders:
        return DataError(
            f"{shown} holds {len(folders)} folders, but neither train/, nor images in all of them, nor the archives of "
            "ImageNet",
            hint=_FOLDERS,
        )
    if any(entry.name.lower().endswith(SUFFIXES) for entry in entries):
        return DataError(f"{shown} holds images, but no class folders: nothing says what they show", hint=_FOLDERS)
    archives = any(entry.name.lower().endswith(_ARCHIVES) for entry in entries)
    return DataError(
        f"there is no data set that resnetctl knows in {shown}", hint=_PUBLISHED if archives else imagenet.HOW_TO_GET
    )
