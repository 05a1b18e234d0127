"""Every way in which people hold ImageNet leads to the same images with the same labels."""

from collections.abc import Callable
from pathlib import Path

import pytest

from resnetctl.data import imagenet
from resnetctl.data.prepare import prepare
from resnetctl.data.sources import SOURCES, recognised
from tests.fixtures.holdings import KAGGLE, Holding, contents

ROUTES: dict[str, Callable[[Holding, Path], Path]] = {
    "official": Holding.official,
    "folder": Holding.folders,
    "flat": Holding.flat,
    "kaggle zip, stored and deflated": lambda h, root: h.kaggle_zip(
        root / "imagenet-object-localization-challenge.zip"
    ),
    "kaggle zip of another name": lambda h, root: h.kaggle_zip(root / "from kaggle.zip"),
    "kaggle zip, nested": lambda h, root: h.kaggle_nested(root / "imagenet-object-localization-challenge.zip").parent,
    "flat, kaggle unpacked": Holding.kaggle_tree,
    "flat, kaggle's inner folder": lambda h, root: h.kaggle_tree(root) / KAGGLE,
    "parquet": Holding.parquet,
}


@pytest.mark.parametrize("route", ROUTES)
def test_the_labels_of_every_route_are_identical(held: Holding, tmp_path: Path, route: str) -> None:
    root = ROUTES[route](held, tmp_path / "in")
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "in").rglob("*")}
    done = prepare(tmp_path / "data", root, allow_incomplete=True)
    assert contents(done.dataset) == held.contents()
    assert done.dataset.name == "imagenet-1k"
    assert done.dataset.source == ("shards" if route == "parquet" else route.partition(" ")[0].strip(","))
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "in").rglob("*")} == before
    train, val = done.dataset.train(), done.dataset.val()
    assert train.info.classes == imagenet.wnids()
    assert (train.height > 0).all()
    assert (val.width > 0).all()
    again = prepare(tmp_path / "other", held.official(tmp_path / "official"), allow_incomplete=True).dataset
    assert done.dataset.fingerprints == again.fingerprints  # deflated, packed or plain: the same data set
    small = sum(p.stat().st_size for p in (tmp_path / "data").rglob("*.safetensors"))
    if "nested" not in route and route != "parquet":  # nothing but indexes is written
        assert sum(p.stat().st_size for p in (tmp_path / "data").rglob("*") if p.is_file()) < small + 5000


def test_anchors_and_traps_in_the_fixture_itself(held: Holding) -> None:
    val = held.contents()["val"]
    assert val["n01751748/ILSVRC2012_val_00000001.JPEG"][1] == 65
    names = imagenet.names_of(tuple(sorted({n.partition("/")[0] for n in val})))
    assert names.count("crane") == 2
    assert names.count("maillot") == 2


def test_every_kind_is_recognised_and_explained(held: Holding, tmp_path: Path) -> None:
    for number, (route, make) in enumerate(ROUTES.items()):
        assert recognised(make(held, tmp_path / str(number)))[0] == route.partition(" ")[0].strip(",")
    assert all(len(text) > 20 for text in SOURCES.values())
