"""What a report may replace."""

import pytest

from resnetctl.errors import UsageError
from resnetctl.report.contents import GENERATOR
from resnetctl.report.output import check_folder, check_page, write_page, write_pictures
from resnetctl.report.plots import png
from tests.report.test_plots import plot

OURS = f'<!DOCTYPE html><html><meta name="generator" content="{GENERATOR}">'
PNG = png(plot(), ["a", "b"], GENERATOR)


def test_a_report_replaces_a_report(tmp_path):
    path = tmp_path / "report.html"
    write_page(path, OURS + "1")
    write_page(path, OURS + "2")
    assert path.read_text() == OURS + "2"


@pytest.mark.parametrize("content", [b"", b"<html>mine</html>", b"\xff\x00" * 5000])
def test_a_file_of_somebody_else_stays(tmp_path, content):
    path = tmp_path / "report.html"
    path.write_bytes(content)
    with pytest.raises(UsageError, match="is not a report"):
        write_page(path, OURS)
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("name", "what"), [("report.pdf", "not the name of an HTML file"), ("x/report.html", "no folder")]
)
def test_names_that_cannot_be(tmp_path, name, what):
    with pytest.raises(UsageError, match=what):
        check_page(tmp_path / name)


def test_a_folder_in_the_way(tmp_path):
    (tmp_path / "report.html").mkdir()
    with pytest.raises(UsageError, match="not replaced"):
        check_page(tmp_path / "report.html")


def test_image_files_replace_those_of_a_report(tmp_path):
    write_pictures(tmp_path / "plots", {"loss.png": PNG})
    write_pictures(tmp_path / "plots", {"loss.png": PNG, "rate.png": PNG})
    assert sorted(p.name for p in (tmp_path / "plots").iterdir()) == ["loss.png", "rate.png"]


def test_a_picture_of_somebody_else_stays(tmp_path):
    (tmp_path / "holiday.png").write_bytes(b"\x89PNG of mine")
    with pytest.raises(UsageError, match=r"holiday\.png exists"):
        write_pictures(tmp_path, {"loss.png": PNG})
    assert [p.name for p in tmp_path.iterdir()] == ["holiday.png"]


@pytest.mark.parametrize("name", ["file", "nowhere/plots"])
def test_a_folder_that_cannot_be(tmp_path, name):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError):
        check_folder(tmp_path / name)
