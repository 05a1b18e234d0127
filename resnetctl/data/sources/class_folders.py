"""How images in class folders are read, from a folder or an archive.

The classes, their order and the accepted suffixes are those of torchvision's ImageFolder, except that hidden folders
(such as `.ipynb_checkpoints`) are not classes, hidden files (such as macOS' `._x.jpg`) are not images, and val may be
called valid or validation.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from resnetctl.errors import DataError, counted, printable, some

SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
_VAL = ("val", "valid", "validation")
_TEST = "test"


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name was not put there by people: `.DS_Store`, `._x.jpg`, `__MACOSX`."""
    return name.startswith(".") or name == "__MACOSX"


def is_image(name: str) -> bool:
    """Whether a file of this name is indexed."""
    return not is_hidden(name) and name.lower().endswith(SUFFIXES)


def split_folders(folders: Collection[str], what: str, notes: list[str]) -> dict[str, str]:
    """Split to its folder among `folders` of `what`, which include train.

    Raises DataError if val exists under two names.
    """
    val = [name for name in _VAL if name in folders]
    if len(val) > 1:
        raise DataError(
            f"{printable(what)} has both {val[0]}/ and {val[1]}/, but only one can be val",
            hint="move one of them elsewhere",
        )
    if _TEST in folders:
        notes.append(f"{_TEST}/ is ignored: train/ is trained on, {val[0] if val else 'val'}/ is evaluated on")
    return {"train": "train", "val": val[0]} if val else {"train": "train"}


def check_classes(classes: Mapping[str, Collection[str]], folders: Mapping[str, str], what: str) -> tuple[str, ...]:
    """The classes of train, sorted. `classes`: those of each split; `folders`: each split's folder in `what`.

    Raises DataError if a split has none, or val has classes that train lacks.
    """
    for split, found in classes.items():
        if not found:
            place = f"{folders[split]}/ in {printable(what)}" if folders[split] else printable(what)
            raise DataError(f"{place} has no class folders", hint="each class needs its own folder of images")
    extra = sorted(set(classes.get("val", ())) - set(classes["train"]))
    if extra:
        raise DataError(
            f"{folders['val']}/ has class folders that are missing from train/: {some(extra)}",
            hint="both need the same class folders",
        )
    return tuple(sorted(classes["train"]))


def skipped_notes(skipped: list[str]) -> list[str]:
    """Notes on files that were not indexed."""
    hidden = [name for name in skipped if is_hidden(name.rpartition("/")[2])]
    others = [name for name in skipped if not is_hidden(name.rpartition("/")[2])]
    notes = []
    if hidden:
        notes.append(f"{counted(len(hidden), 'hidden file')} skipped: {some(hidden)}")
    if others:
        notes.append(f"{counted(len(others), 'file')} skipped: not a supported image type: {some(others)}")
    return notes
