"""The page in Chromium: it asks for nothing, nothing is wrong with it, and it fits every window."""

import json

import pytest

from resnetctl.report.page import page
from tests.fixtures.browser import CHROMIUM, browser

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    with browser(tmp_path_factory.mktemp("profile")) as tab:
        yield tab


@pytest.fixture(scope="module")
def address(contents, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(page(contents))
    return path.as_uri()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1280, 1600])
def test_no_request_no_complaint_and_no_sideways_scrolling(tab, address, width, scheme):
    tab.look(width, scheme)
    tab.open(address)
    assert tab.requests == [address]
    assert tab.complaints == []
    assert tab.run("document.documentElement.scrollWidth") <= width
    assert tab.run("[...document.images].every(i => i.complete && i.naturalWidth > 0)")


def test_a_page_that_asks_and_complains_is_seen(tab, tmp_path):
    bad = tmp_path / "bad.html"
    bad.write_text('<img src="http://127.0.0.1:9/x.png"><script>console.error("no")</script>')
    tab.open(bad.as_uri())
    assert "http://127.0.0.1:9/x.png" in tab.requests
    assert any('"no"' in complaint for complaint in tab.complaints)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_stand_out_from_what_is_behind_them(tab, address, scheme):
    """WCAG 2.1 asks for a contrast of 4.5 for text and of 3 for the strokes of a drawing."""
    tab.look(1280, scheme)
    tab.open(address)
    found = json.loads(tab.run(_CONTRASTS))
    assert len(found) == 20
    assert {name: value for name, value in found.items() if value < (3 if "run" in name else 4.5)} == {}


_CONTRASTS = """
(() => {
  const style = getComputedStyle(document.documentElement);
  const light = name => {
    const hex = style.getPropertyValue('--' + name).trim().replace(/^#(.)(.)(.)$/, '#$1$1$2$2$3$3');
    const parts = [1, 3, 5].map(i => parseInt(hex.slice(i, i + 2), 16) / 255);
    const [r, g, b] = parts.map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const found = {};
  const pair = (a, b) => {
    const [x, y] = [light(a), light(b)].sort((p, q) => q - p);
    found[a + ' on ' + b] = (x + 0.05) / (y + 0.05);
  };
  for (const back of ['paper', 'panel']) for (const front of ['ink', 'faint']) pair(front, back);
  for (const back of ['good', 'bad', 'plain']) pair('ink', back);
  pair('good-ink', 'good'); pair('bad-ink', 'bad'); pair('good-ink', 'paper'); pair('bad-ink', 'paper');
  pair('accent', 'paper');
  for (let n = 0; n < 8; n++) pair('run-' + n, 'panel');
  return JSON.stringify(found);
})()
"""


def test_a_screen_reader_has_a_name_for_everything(tab, address):
    tab.look(1280, "light")
    tab.open(address)
    named = ("heading", "image", "table", "radio", "link", "region", "navigation", "columnheader")
    found = []
    for node in tab.call("Accessibility.getFullAXTree")["nodes"]:
        role = node.get("role", {}).get("value")
        if role in named and not node.get("ignored"):
            found.append((role, node.get("name", {}).get("value", "").strip()))
    assert {role for role, _ in found} == set(named)
    assert [role for role, name in found if not name and role != "columnheader"] == []


def test_a_word_switches_between_epochs_and_time(tab, address):
    tab.look(1280, "light")
    tab.open(address)
    visible = "['epochs', 'time'].map(x => document.querySelector('.over-' + x).offsetHeight > 0)"
    assert tab.run(visible) == [True, False]
    tab.run("document.querySelector('label[for=by-time]').click()")
    assert tab.run(visible) == [False, True]


def test_on_paper_both_are_there_and_the_folded_tables_are_not(tab, address):
    tab.look(800, "dark", media="print")
    tab.open(address)
    shown = tab.run("[...document.querySelectorAll('.plots, details')].filter(e => e.offsetHeight).map(e => e.tagName)")
    assert shown == ["DIV"] * 3
    assert tab.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert tab.run("getComputedStyle(document.querySelector('svg text')).fill") == "rgb(68, 68, 68)"
