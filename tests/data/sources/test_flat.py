"""A val/ without class folders."""

import shutil
from pathlib import Path

import pytest

from resnetctl.data.prepare import prepare
from resnetctl.errors import DataError
from tests.fixtures.holdings import Holding, contents
from tests.fixtures.imagenet_archives import DEVKIT


def test_flat_val_with_the_devkit_beside_it_or_nothing_at_all(held: Holding, tmp_path: Path) -> None:
    root = held.flat(tmp_path / "in")
    (root / "LOC_val_solution.csv").unlink()
    done = prepare(tmp_path / "a", root, allow_incomplete=True)
    assert contents(done.dataset) == held.contents()
    assert any("resnetctl's own table" in text for text in done.notices)
    held.devkit(root / DEVKIT)
    shutil.rmtree(root / "made")
    done = prepare(tmp_path / "b", root, "flat", allow_incomplete=True)
    assert contents(done.dataset) == held.contents()
    assert not any("own table" in text for text in done.notices)


def test_flat_val_images_of_unknown_label_are_refused(held: Holding, tmp_path: Path) -> None:
    root = held.flat(tmp_path / "in")
    shutil.copy(root / "val" / held.val[0][0], root / "val" / "holiday.JPEG")
    with pytest.raises(DataError, match=r"no label for holiday\.JPEG"):
        prepare(tmp_path / "data", root, allow_incomplete=True)
