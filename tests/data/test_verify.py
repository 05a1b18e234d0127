from pathlib import Path

import numpy as np
import pytest

from resnetctl.data import imagenet
from resnetctl.data.prepare import prepare
from resnetctl.data.verify import verify
from resnetctl.errors import DataError
from tests.fixtures.class_folders import reasons, tree
from tests.fixtures.imagenet_archives import TRAIN, official, val_wnids


@pytest.mark.parametrize("workers", [0, 2])
def test_a_sound_data_set(tmp_path: Path, workers: int) -> None:
    seen = []
    report = verify(tree(tmp_path), workers=workers, progress=lambda *a: seen.append(a))
    assert report.ok
    assert report.bad == ()
    assert report.images == 16
    assert ("decoding val", 8, 8) in seen


def test_images_inside_the_official_archives(tmp_path: Path) -> None:
    wnids = imagenet.wnids()[::300]
    made = official(wnids)
    made.train[wnids[1]][2] = (made.train[wnids[1]][2][0], b"<html>")
    root = made.write(tmp_path / "in")
    prepare(tmp_path / "data", root)
    report = verify(tmp_path / "data", workers=2)
    assert reasons(report) == {f"{wnids[1]}/{made.train[wnids[1]][2][0]}": "it is a web page, not an image"}
    assert report.bad[0].container == TRAIN
    assert val_wnids(wnids, made)


def test_nothing_prepared(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no data set is prepared"):
        verify(tmp_path, workers=0)


def test_more_images_than_a_worker_takes_at_once(tmp_path: Path) -> None:
    prepare(tmp_path, kind="sample")
    seen: list[tuple[str, int, int | None]] = []
    report = verify(tmp_path, workers=2, progress=lambda *a: seen.append(a))
    assert report.ok
    assert report.notes == {"grayscale": 2500}
    steps = np.diff([0] + [done for what, done, _ in seen if what == "decoding train"])
    assert steps.sum() == 2000
    assert (steps > 0).all()
