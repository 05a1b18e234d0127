"""Imagewoof is told apart from Imagenette by its archive's name; tests/test_download.py fetches and reads it."""

import pytest

from resnetctl.data.sources import recognised


@pytest.mark.parametrize(
    ("name", "kinds"),
    [("imagewoof2.tgz", ["imagewoof"]), ("imagewoof2-160.tar", ["imagewoof"]), ("imagenette2-320.tgz", ["imagenette"])],
)
def test_each_archive_has_its_kind(name, kinds, tmp_path):
    (tmp_path / name).touch()
    assert recognised(tmp_path) == kinds
    assert recognised(tmp_path / name) == kinds
