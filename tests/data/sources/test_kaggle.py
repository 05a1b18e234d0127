"""Kaggle's archives."""

import shutil
import zipfile
from pathlib import Path

import pytest

from resnetctl.data.prepare import prepare
from resnetctl.errors import DataError
from tests.fixtures.holdings import KAGGLE, Holding


def test_a_kaggle_zip_with_a_strange_image(held: Holding, tmp_path: Path) -> None:
    path = held.kaggle_zip(tmp_path / "in" / "imagenet-object-localization-challenge.zip")
    for name in (
        f"{KAGGLE}/train/n01440764/n02102040_5.JPEG",
        f"{KAGGLE}/val/x.JPEG",
        f"{KAGGLE}/train/n99999999/n99999999_1.JPEG",
    ):
        copy = tmp_path / "copy" / path.name
        copy.parent.mkdir(exist_ok=True)
        shutil.copy(path, copy)
        with zipfile.ZipFile(copy, "a") as archive:
            archive.writestr(name, b"x")
        with pytest.raises(DataError, match="are expected"):
            prepare(tmp_path / "data", copy, allow_incomplete=True)


def test_a_kaggle_zip_cut_or_changed(held: Holding, tmp_path: Path) -> None:
    path = held.kaggle_zip(tmp_path / "in" / "imagenet-object-localization-challenge.zip")
    whole = path.read_bytes()
    for damaged in (whole[:-1], whole[: len(whole) // 2], whole[:100], b""):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match="damaged"):
            prepare(tmp_path / "data", path.parent, allow_incomplete=True)
    assert [p.name for p in (tmp_path / "data").iterdir()] == [".lock"]


def test_a_nested_archive_that_is_damaged_or_a_bomb(held: Holding, tmp_path: Path) -> None:
    import gzip

    path = tmp_path / "in" / "imagenet_object_localization_patched2019.tar.gz"
    path.parent.mkdir()
    for content in (b"", b"\x1f\x8b", gzip.compress(bytes(100))[:-5], gzip.compress(bytes(200 << 20), 1)):
        path.write_bytes(content)
        with pytest.raises(DataError, match="damaged"):
            prepare(tmp_path / "data", path, allow_incomplete=True)
        assert [p.name for p in (tmp_path / "data").iterdir()] == [".lock"]
