"""Lists of labels that are damaged or belong to other images."""

from pathlib import Path

import pytest

from resnetctl.data.prepare import prepare
from resnetctl.errors import DataError
from tests.fixtures.holdings import Holding


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "does not begin with"),
        ("ImageId,PredictionString\n", "no images"),
        ("ImageId,PredictionString\na,n01440764 1\na,n01440764 1\n", "names a twice"),
        ("ImageId,PredictionString\na,tench\n", "line 2 has no wnid"),
        ("ImageId,PredictionString\n\x00\x00,\n", "damaged"),
    ],
)
def test_a_damaged_solution(held: Holding, tmp_path: Path, text: str, match: str) -> None:
    root = held.flat(tmp_path / "in")
    (root / "LOC_val_solution.csv").write_text(text)
    with pytest.raises(DataError, match=match):
        prepare(tmp_path / "data", root, allow_incomplete=True)


def test_fault_11_a_solution_of_another_length_is_named(held: Holding, tmp_path: Path) -> None:
    root = held.flat(tmp_path / "in")
    lines = (root / "LOC_val_solution.csv").read_text().splitlines()
    (root / "LOC_val_solution.csv").write_text("\n".join([*lines, "ILSVRC2012_val_00049999,n01440764 1 2 3 4"]))
    with pytest.raises(DataError, match=r"n01440764 \(4 of 5\)"):
        prepare(tmp_path / "data", root)
