"""Plots as the page takes them, and as files."""

import io
import re
import sys
import xml.etree.ElementTree as ET

import pytest
from PIL import Image

from resnetctl.errors import ResnetctlError
from resnetctl.report.curves import Curve, Plot
from resnetctl.report.plots import MOST_RUNS, check_matplotlib, png, svg
from resnetctl.report.result import BarGroup, Bars, Calibration, Matrix

ODD = "<b>$x^$[/]&\"'"


def plot(runs=2, name=""):
    curves = tuple(Curve(run=n, name=name, points=((0.0, n), (1.0, n + 1))) for n in range(runs))
    return Plot(title=f"Loss {ODD}", x_name="epoch", y_name="loss", curves=curves)


BARS = Bars(
    title="classes",
    x_name="%",
    labels=(ODD, "b" * 80),
    groups=(BarGroup(run=0, values=(10.0, 100.0), low=(5.0, 90.0), high=(20.0, 100.0)),),
)
MATRIX = Matrix(title="m", run=1, labels=(ODD, "dog"), counts=((3, 1), (0, 7)), totals=(4, 7), of=2)
CALIBRATION = Calibration(
    title="c", curves=(Curve(run=0, name="", points=((50.0, 40.0), (90.0, 95.0))),), images=((3, 9),), errors=(1.0,)
)
DRAWN = {"curves": plot(), "bars": BARS, "matrix": MATRIX, "calibration": CALIBRATION}


@pytest.mark.parametrize("kind", DRAWN)
def test_the_page_decides_the_colours(kind):
    text = svg(DRAWN[kind], "x")
    assert "var(--run-" in text
    assert "var(--faint)" in text
    colours = set(re.findall(r"#[0-9a-f]{6}", text))
    assert colours <= {"#000000", "#ffffff"}, colours  # of strokes and fills that are not seen
    assert text == svg(DRAWN[kind], "x")


@pytest.mark.parametrize("kind", DRAWN)
def test_it_is_an_element_with_a_name_for_the_screen_reader(kind):
    root = ET.fromstring(svg(DRAWN[kind], ODD))
    assert root.attrib["role"] == "img"
    assert root.attrib["aria-label"] == ODD
    assert "width" not in root.attrib  # as wide as its place
    assert "viewBox" in root.attrib


def test_texts_are_texts_whatever_is_in_them():
    assert ODD in "".join(ET.fromstring(svg(BARS, "x")).itertext())
    assert f"what {ODD} is" in "".join(ET.fromstring(svg(plot(1, name=f"what {ODD} is"), "x")).itertext())


def test_two_plots_in_a_page_share_no_name():
    def names(title):
        return set(re.findall(r' id="([^"]+)"', svg(plot(), title)))

    assert names("loss over epochs")
    assert names("loss over epochs") & names("loss over minutes") == set()


def test_each_run_has_a_colour():
    text = svg(plot(MOST_RUNS), "x")
    assert all(f"var(--run-{n})" in text for n in range(MOST_RUNS))


@pytest.mark.parametrize("kind", DRAWN)
def test_as_a_file(kind):
    data = png(DRAWN[kind], ["a", ODD], "resnetctl 0 report")
    image = Image.open(io.BytesIO(data))
    assert image.info["Software"] == "resnetctl 0 report"
    assert image.width > 700
    assert image.convert("RGB").getpixel((0, 0)) == (255, 255, 255)
    assert data == png(DRAWN[kind], ["a", ODD], "resnetctl 0 report")


def test_in_a_file_the_names_of_the_runs_stand():
    assert png(plot(), ["a", "b"], "x") != png(plot(), ["a", "c"], "x")


def test_without_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ResnetctlError, match="needs the package matplotlib") as raised:
        check_matplotlib()
    assert raised.value.hint == 'pip install "resnetctl[report]"'
