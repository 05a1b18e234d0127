"""A val split drawn from the train images."""

from pathlib import Path

import numpy as np
import pytest

from resnetctl.data.prepare import Split, prepare
from resnetctl.errors import DataError, UsageError
from tests.fixtures.imagenet_archives import jpeg

COUNTS = {"cat": 100, "dog": 21, "emu": 2}


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    for name, count in COUNTS.items():
        (tmp_path / "pets" / name).mkdir(parents=True)
        for n in range(count):
            (tmp_path / "pets" / name / f"{n}.jpg").write_bytes(jpeg(n))
    return tmp_path / "pets"


TENTH = Split(fraction=0.1, seed=3)


def test_the_same_part_of_each_class_and_one_at_least(pets: Path, tmp_path: Path) -> None:
    dataset = prepare(tmp_path / "data", pets, split=TENTH).dataset
    train, val = dataset.train(), dataset.val()
    assert np.bincount(val.label).tolist() == [10, 2, 1]
    assert np.bincount(train.label).tolist() == [90, 19, 1]
    assert len({r.name for r in train} | {r.name for r in val}) == 123
    assert val.info.notes == ("val: 10 % of the train images of each class, drawn with seed 3",)


def test_it_stays_when_prepared_again(pets: Path, tmp_path: Path) -> None:
    first = prepare(tmp_path / "data", pets, split=TENTH).dataset
    assert prepare(tmp_path / "data").dataset.fingerprints == first.fingerprints


def test_another_seed_draws_others(pets: Path, tmp_path: Path) -> None:
    first = prepare(tmp_path / "data", pets, split=TENTH).dataset
    other = prepare(tmp_path / "other", pets, split=Split(fraction=0.1, seed=4)).dataset
    assert other.fingerprints != first.fingerprints


def test_an_image_added_later_moves_few_others(pets: Path, tmp_path: Path) -> None:
    old = {r.name for r in prepare(tmp_path / "data", pets, split=TENTH).dataset.val()}
    (pets / "cat" / "new.jpg").write_bytes(jpeg(5))
    assert len(old - {r.name for r in prepare(tmp_path / "data").dataset.val()}) <= 1


def test_a_val_split_that_is_there_is_not_replaced(tmp_path: Path) -> None:
    for name in ("train", "val"):
        (tmp_path / "both" / name / "cat").mkdir(parents=True)
        (tmp_path / "both" / name / "cat" / "1.jpg").write_bytes(jpeg(1))
    with pytest.raises(UsageError, match="its own val split"):
        prepare(tmp_path / "data", tmp_path / "both", split=TENTH)


def test_a_single_image_cannot_be_in_both(pets: Path, tmp_path: Path) -> None:
    (pets / "fox").mkdir()
    (pets / "fox" / "1.jpg").write_bytes(jpeg(1))
    with pytest.raises(DataError, match="fox has a single image"):
        prepare(tmp_path / "data", pets, split=TENTH)
