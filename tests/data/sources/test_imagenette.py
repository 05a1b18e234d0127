"""Imagenette's archives; tests/test_download.py fetches them."""

from pathlib import Path

import pytest

from resnetctl.data.prepare import prepare
from resnetctl.errors import DataError
from tests.fixtures.holdings import IMAGENETTE, Holding, contents


def test_imagenette(held: Holding, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resnetctl.data.sources.imagenette._MD5", {})
    archive = held.imagenette(tmp_path / "in" / "imagenette2-160.tgz")
    done = prepare(tmp_path / "data", archive)
    expected = held.contents()
    label = {wnid: k for k, wnid in enumerate(IMAGENETTE)}
    for split, found in contents(done.dataset).items():
        whole = {n: d for n, (d, _) in expected[split].items() if n.partition("/")[0] in label}
        assert found == {n: (d, label[n.partition("/")[0]]) for n, d in whole.items()}
    assert done.dataset.source == "imagenette"
    assert done.dataset.train().info.class_names[:2] == ("tench", "English springer")
    assert any("noisy_imagenette.csv" in text for text in done.notices)
    assert prepare(tmp_path / "data").dataset.fingerprints == done.dataset.fingerprints


def test_imagenette_with_another_md5_is_refused(held: Holding, tmp_path: Path) -> None:
    archive = held.imagenette(tmp_path / "in" / "imagenette2-160.tgz")
    with pytest.raises(DataError, match="should be md5:e793b78cc4c9e9a4ccc0c1155377a412"):
        prepare(tmp_path / "data", archive)
