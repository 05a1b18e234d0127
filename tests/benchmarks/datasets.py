"""One set of photographs in every form that is compared: class folders, one tar, shards, an FFCV file."""

from __future__ import annotations

import subprocess
import tarfile
from collections.abc import Iterable
from pathlib import Path

from resnetctl.data.archives.reader import open_file
from resnetctl.data.archives.tar import tar_members
from resnetctl.data.images.header import image_size
from resnetctl.data.index import IndexInfo, Record, index_path
from resnetctl.data.index_writer import IndexBuilder
from tests.fixtures.photos import benchmark_tree, tar_of

TRAIN, VAL, CLASSES, SHARDS = 2048, 128, 16, 8


def class_folders(folder: Path, own: Path | None) -> Path:
    """A folder with train/<class>/: `own`, or the photographs that the test packages ship."""
    return own or benchmark_tree(folder / "photos", TRAIN, VAL, CLASSES)


def index_folders(tree: Path, folder: Path) -> Path:
    """The index of class folders, made by `prepare` itself."""
    from resnetctl.data.prepare import prepare

    prepare(folder / "files", tree, "folder")
    return index_path(folder / "files", "train")


def index_tar(tree: Path, folder: Path) -> Path:
    """The index of all the pictures in one tar, which is read in place."""
    tar = folder / "tar" / "train.tar"
    if not tar.exists():
        tar.parent.mkdir(parents=True, exist_ok=True)
        tar_of(tree / "train").rename(tar)
    return _index_tars([tar])


def index_shards(tree: Path, folder: Path) -> Path:
    """The index of the pictures spread over tar shards."""
    out = folder / "shards"
    paths = [out / f"train-{i:06d}.tar" for i in range(SHARDS)]
    files = sorted((tree / "train").rglob("*.jpg"))
    if not paths[-1].exists():
        out.mkdir(parents=True, exist_ok=True)
        for i, path in enumerate(paths):
            with tarfile.open(path, "w") as tar:
                for file in files[i::SHARDS]:
                    tar.add(file, f"{file.parent.name}/{file.name}")
    return _index_tars(paths)


def _index_tars(tars: Iterable[Path]) -> Path:
    tars = list(tars)
    root = tars[0].parent
    found = []
    for tar in tars:
        with open_file(tar) as (read, end):
            found += [(tar.name, member) for member in tar_members(read, 0, end, tar.name)]
    classes = tuple(sorted({member.name.split("/")[0] for _, member in found}))
    builder = IndexBuilder()
    for container, member in found:
        height, width = image_size(member.head)
        label = classes.index(member.name.split("/")[0])
        builder.add(Record(member.name, container, member.offset, member.size, label, height, width))
    info = IndexInfo(split="train", source="benchmark", root=".", classes=classes, class_names=classes)
    builder.write(index_path(root, "train"), info)
    return index_path(root, "train")


def ffcv_file(tree: Path, folder: Path, python: Path) -> Path:
    """FFCV's own file of the same pictures, all JPEG, at most 500 pixels a side, quality 92."""
    path = folder / "train.beton"
    if not path.exists():
        script = Path(__file__).with_name("ffcv_loader.py")
        subprocess.run([python, script, "write", tree / "train", path], check=True, capture_output=True)
    return path
