"""Shards as a source."""

from pathlib import Path

import pytest

from resnetctl.data.prepare import prepare
from resnetctl.errors import DataError
from tests.fixtures.holdings import Holding, contents, packed


def test_a_missing_shard_is_named(official_root: Path, tmp_path: Path) -> None:
    packed(tmp_path / "data", official_root)
    (tmp_path / "data" / "shards" / "train-00001.tar").unlink()
    with pytest.raises(DataError, match=r"train-00001.tar is missing"):
        prepare(tmp_path / "data", allow_incomplete=True)
    dataset = packed(tmp_path / "data", official_root)
    assert contents(dataset) == Holding().contents()
