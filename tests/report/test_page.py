"""The page as a file: what it refers to, how a screen reader finds its way, and that nothing in it is code."""

from dataclasses import replace
from itertools import pairwise

import pytest

from resnetctl.report.contents import Contents
from resnetctl.report.page import page
from resnetctl.report.pictures import pictures
from tests.fixtures.pages import Page
from tests.report.conftest import ODD


@pytest.fixture(scope="module")
def text(contents):
    return page(contents)


@pytest.fixture(scope="module")
def read(text):
    return Page(text)


def test_it_points_at_nothing_but_itself(read, text):
    assert read.addresses
    assert [a for a in read.addresses if not a.startswith(("data:", "#"))] == []
    assert "@import" not in text
    assert all(part.startswith('"#') or part.startswith("#") for part in text.split("url(")[1:])


def test_it_runs_nothing(read):
    assert read.all("script") == []
    assert not [name for _, attributes in read.elements for name in attributes if name.startswith("on")]


def test_links_lead_somewhere(read):
    named = [attributes["id"] for _, attributes in read.elements if "id" in attributes]
    links = [a["href"].removeprefix("#") for a in read.all("a")]
    assert len(links) == 9
    assert set(links) <= set(named)
    assert len(named) == len(set(named))


def test_every_picture_and_plot_has_words(read):
    assert all(image["alt"] for image in read.all("img"))
    assert all(drawing["aria-label"] and drawing["role"] == "img" for drawing in read.all("svg"))
    assert len(read.all("img")) > 40


def test_headings_go_down_step_by_step(read):
    levels = [int(tag[1]) for tag, _ in read.elements if tag in ("h1", "h2", "h3", "h4")]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b - a <= 1 for a, b in pairwise(levels))


def test_a_table_stands_behind_every_plot(read):
    plots = [n for n, (tag, a) in enumerate(read.elements) if tag == "figure" and a.get("class") == "plot"]
    assert len(plots) == 10 + 2 + 2  # five over epochs and over time; classes and calibration; two confusions
    for start, end in zip(plots, [*plots[1:], len(read.elements)], strict=True):
        tags = [tag for tag, _ in read.elements[start:end]]
        assert tags.index("svg") < tags.index("details") < tags.index("table")


def test_tables_have_a_caption_and_heads(read):
    assert len(read.all("table")) == len(read.all("caption"))
    assert {head.get("scope") for head in read.all("th")} == {"col", "row"}


def test_names_are_text(read, text):
    assert "<b>" not in text
    assert read.all("b") == []
    assert ODD.replace("/", "") in read.text
    assert f"left out: {ODD}" in read.text


def test_what_it_says(read):
    for part in (
        "best top-1 in epoch 2 of 3",
        "optimizer.lr 0.1 0.05",
        "first, step 30",
        "second against first",
        "Top-1 of each class",
        "What second takes for what",
        "expected calibration error",
        "cannot be read",
        "Mixup.",
        "threads 2 2",
    ):
        assert part in read.text, part


def test_it_is_small_and_the_same_each_time(text, contents):
    assert len(text.encode()) < 3_000_000
    assert page(contents) == text


def test_a_run_that_was_not_evaluated(contents):
    parts = [replace(part, outcome=None, why_not=f"no data set in {ODD}") for part in contents.runs]
    read = Page(page(Contents(runs=tuple(parts))))
    assert f"first was not evaluated: no data set in {ODD}." in read.text
    assert len(read.all("svg")) == 10
    assert read.all("img") == []


def test_one_run_needs_no_colours_told(contents):
    read = Page(page(Contents(runs=contents.runs[:1])))
    assert "What differs" not in read.text
    assert "against" not in read.text


def test_only_what_the_network_sees(contents):
    read = Page(page(Contents(runs=(), seen=contents.seen)))
    assert len(read.all("img")) == 14
    assert read.all("svg") == []
    assert "Before training" in read.text


def test_the_files(contents):
    found = pictures(contents)
    assert {"loss-over-epochs.png", "loss-over-time.png", "classes.png", "confusion-first.png", "worst-second.png"} <= {
        *found
    }
    assert "seen-1.png" in found
    assert all(data.startswith(b"\x89PNG") and b"Software\0resnetctl " in data[:4096] for data in found.values())
