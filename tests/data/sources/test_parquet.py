"""Hugging Face's parquet files."""

from pathlib import Path

import pytest

from resnetctl.data.copies.from_source import Copying
from resnetctl.data.copies.pack import Packing
from resnetctl.data.prepare import prepare
from resnetctl.errors import DataError, ResnetctlError
from tests.fixtures.holdings import Holding, write_parquet

ONE = "train-00001-of-00003.parquet"


@pytest.mark.parametrize(
    ("name", "label", "match"),
    [
        ("n01440764_18_n01440764.JPEG", 1, "contradicts its name"),
        ("n01440764_18_n01443537.JPEG", 0, "contradicts its name"),
        ("x.JPEG", 0, "not an ImageNet image"),
    ],
)
def test_parquet_rows_whose_label_is_not_their_own(
    held: Holding, tmp_path: Path, name: str, label: int, match: str
) -> None:
    root = held.parquet(tmp_path / "in")
    write_parquet(root / "data" / ONE, [(name, held.train["n01440764"][0][1], label)])
    with pytest.raises(DataError, match=match):
        prepare(tmp_path / "data", root, allow_incomplete=True)


def test_a_cut_parquet_file(held: Holding, tmp_path: Path) -> None:
    root = held.parquet(tmp_path / "in")
    (root / "data" / ONE).write_bytes((root / "data" / ONE).read_bytes()[:-100])
    with pytest.raises(DataError, match="cannot be read"):
        prepare(tmp_path / "data", root, allow_incomplete=True)


def test_a_missing_parquet_file_is_named(held: Holding, tmp_path: Path) -> None:
    root = held.parquet(tmp_path / "in")
    (root / "data" / ONE).unlink()
    with pytest.raises(DataError, match="1 of the train parquet files are missing, the first of them 00001"):
        prepare(tmp_path / "data", root)


def test_parquet_without_pyarrow_says_what_to_install(
    held: Holding, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    root = held.parquet(tmp_path / "in")
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ResnetctlError, match="pyarrow") as caught:
        prepare(tmp_path / "data", root, allow_incomplete=True)
    assert caught.value.hint == 'pip install "resnetctl[parquet]"'


def test_parquet_can_be_shrunk_on_the_way(held: Holding, tmp_path: Path) -> None:
    copying = Copying(packing=Packing(max_side=16))
    dataset = prepare(tmp_path / "data", held.parquet(tmp_path / "in"), allow_incomplete=True, copying=copying).dataset
    train = dataset.train()
    assert max(train.height.max(), train.width.max()) == 16
    assert {r.name: r.label for r in train} == {n: label for n, (_, label) in held.contents()["train"].items()}
