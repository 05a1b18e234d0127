"""`dataset.json`: written, read back, and never believed when damaged or another program's."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from resnetctl.data.dataset import encode_dataset, is_ours, load_dataset
from resnetctl.data.prepare import prepare
from resnetctl.errors import DataError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    prepare(tmp_path, kind="sample")
    return tmp_path


def test_it_comes_back(root: Path) -> None:
    dataset = replace(load_dataset(root), quarantined={"val": 2}, val_fraction=0.5, accepted={"a": "md5:1"})
    (root / "dataset.json").write_bytes(encode_dataset(dataset))
    assert load_dataset(root) == dataset


def test_none_prepared_names_the_way(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no data set is prepared") as caught:
        load_dataset(tmp_path)
    assert "resnetctl prepare SOURCE" in str(caught.value.hint)
    assert not is_ours(tmp_path / "dataset.json")


@pytest.mark.parametrize("change", [{"classes": "ten"}, {"train": None}, {"fingerprints": []}, {"colour": 1}])
def test_senseless_values(root: Path, change: dict[str, object]) -> None:
    path = root / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(DataError, match="is damaged"):
        load_dataset(root)


def test_a_file_of_another_program(root: Path) -> None:
    (root / "dataset.json").write_text('{"created_by": "excel"}')
    with pytest.raises(DataError, match="was not written by resnetctl"):
        load_dataset(root)


def test_an_index_of_another_prepare(root: Path) -> None:
    path = root / "dataset.json"
    content = json.loads(path.read_text())
    content["fingerprints"]["train"] = "0" * 64
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"is not the index that dataset\.json was written with"):
        load_dataset(root).train()
