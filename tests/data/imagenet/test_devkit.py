"""ImageNet's devkit, damaged or contradicting itself."""

import tarfile
from pathlib import Path

import pytest

from resnetctl.data import imagenet
from resnetctl.data.prepare import prepare
from resnetctl.errors import DataError
from tests.fixtures.imagenet_archives import (
    DEVKIT,
    meta_mat,
    official,
    write_devkit,
)

WNIDS = imagenet.wnids()[::83]


def test_a_ground_truth_with_an_id_of_no_class(tmp_path: Path) -> None:
    made = official(WNIDS)
    made.truth[4] = 1500
    with pytest.raises(DataError, match="the id 1500, which is not a class"):
        prepare(tmp_path / "data", made.write(tmp_path / "in"))


def test_a_damaged_devkit(tmp_path: Path) -> None:
    root = official(WNIDS).write(tmp_path / "in")
    whole = (root / DEVKIT).read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"<html>login</html>", whole[:-5], whole[:100] + b"x" + whole[101:]):
        (root / DEVKIT).write_bytes(damaged)
        with pytest.raises(DataError, match=DEVKIT):
            prepare(tmp_path / "data", root)
    for meta in (b"", b"MATLAB 5.0", meta_mat([(1, "n01440764", "a", 1), (2, "n01440764", "b", 1)], 0)):
        write_devkit(root / DEVKIT, meta, [1, 2])
        with pytest.raises(DataError, match=DEVKIT):
            prepare(tmp_path / "data", root)
    with tarfile.open(root / DEVKIT, "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("readme.txt"))
    with pytest.raises(DataError, match=r"it has no data/meta\.mat"):
        prepare(tmp_path / "data", root)
