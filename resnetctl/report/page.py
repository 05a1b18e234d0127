"""A self-contained HTML page: how runs went, their results, and what their networks see."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from resnetctl.recipe import recipe_to_toml
from resnetctl.recipe_values import show_value
from resnetctl.report import curves, html, plots
from resnetctl.report.contents import (
    GENERATOR,
    Contents,
    Gallery,
    RunPart,
    Section,
    measured_of,
    names_of,
    sample_tiles,
    worst_tiles,
)
from resnetctl.report.evaluation import evaluation
from resnetctl.report.numbers import NONE, differing_values, percent, side_by_side

if TYPE_CHECKING:
    from resnetctl.runs.summary import Summary

_MOST_ROWS = 60
"""Rows of a curve's data table."""
_CSS = Path(__file__).with_name("page.css")
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""Allows the page to load only its own content."""


def page(contents: Contents) -> str:
    """The HTML document."""
    runs, sections = contents.runs, []
    if runs:
        sections += [_at_a_glance(runs), _curves(runs), _recipes(runs), evaluation(runs)]
        sections += [_pictures(runs), _worst(runs)]
    sections.append(_seen(contents.seen))
    if runs:
        sections.append(_machine(runs))
    shown = [section for section in sections if section]
    links = "".join(f'<a href="#{key}">{html.text(title)}</a>' for key, title, _ in shown)
    body = "".join(
        f'<section id="{key}" aria-labelledby="{key}-title"><h2 id="{key}-title">{html.text(title)}</h2>{content}'
        "</section>"
        for key, title, content in shown
    )
    title, kind = html.text(contents.title), "Report of training" if runs else "Before training"
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><meta name="generator" content="{GENERATOR}">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><link rel="icon" href="data:,">'
        f"<title>{title} · resnetctl</title><style>{_CSS.read_text(encoding='utf-8')}</style></head>\n"
        f'<body><a class="skip" href="#content">Skip to the content</a><header><p class="kind">{kind}</p>'
        f'<h1>{title}</h1>{_key(runs)}<nav aria-label="Sections">{links}</nav></header>'
        f'<main id="content">{body}</main><footer>Made by {html.text(GENERATOR)}</footer></body></html>\n'
    )


def _key(runs: Sequence[RunPart]) -> str:
    if len(runs) < 2:
        return ""
    names = "".join(f"<li>{html.chip(n)}{html.text(part.summary.name)}</li>" for n, part in enumerate(runs))
    return f'<ul class="key" aria-label="The runs and their colours">{names}</ul>'


def _at_a_glance(runs: Sequence[RunPart]) -> Section:
    cards = "".join(
        f'<li>{html.chip(n)}<span class="name">{html.text(part.summary.name)}</span>'
        f'<strong>{html.text(percent(part.summary.metrics.best))}</strong><span class="of">best top-1'
        f"{html.text(_when_best(part.summary))}</span></li>"
        for n, part in enumerate(runs)
    )
    rows = [(label, *values) for label, values in side_by_side([part.summary for part in runs])]
    return (
        "glance",
        "At a glance",
        f'<ul class="cards">{cards}</ul>'
        + html.table(("", *names_of(runs)), rows, caption="Results", runs_from=1, wraps=True),
    )


def _when_best(s: Summary) -> str:
    best, planned = s.metrics.best, s.recipe.train.epochs if s.recipe else None
    if best is None:
        return ", nothing measured yet"
    return f" in epoch {math.ceil(best.epoch):,}" + (f" of {planned:,}" if planned else "")


def _curves(runs: Sequence[RunPart]) -> Section:
    summaries = [part.summary for part in runs]
    groups = []
    for over, drawn in (("epochs", curves.over_epochs(summaries)), ("time", curves.over_time(summaries))):
        shown = "".join(_curve_plot(plot, runs) for plot in drawn if not plot.is_empty)
        groups.append(f'<div class="plots over-{over}"><h3>Over {over}</h3>{shown}</div>' if shown else "")
    if not any(groups):
        return "curves", "Training", "<p>Nothing has been measured yet.</p>"
    switch = "".join(
        f'<input type="radio" name="over" id="by-{over}"{" checked" if over == "epochs" else ""}>'
        f'<label for="by-{over}">over {over}</label>'
        for over in ("epochs", "time")
    )
    return "curves", "Training", f'<div class="switched">{switch}{"".join(groups)}</div>'


def _curve_plot(plot: curves.Plot, runs: Sequence[RunPart]) -> str:
    names = names_of(runs)
    title = f"{plot.title} over {plot.x_name}: {', '.join(names)}"
    return html.plot(plot.title, plots.svg(plot, title), _curve_table(plot, names))


def _curve_table(plot: curves.Plot, names: Sequence[str]) -> str:
    columns = [(c, dict(curves.thinned(c.points, _MOST_ROWS))) for c in plot.curves if c.points]
    head = [plot.x_name]
    head += [
        " ".join(filter(None, (names[c.run] if len(names) > 1 else "", c.name))) or plot.y_name for c, _ in columns
    ]
    places = sorted({x for _, values in columns for x in values})
    rows = [(f"{x:.4g}", *(f"{v[x]:.5g}" if x in v else "" for _, v in columns)) for x in places]
    return html.table(head, rows, caption=f"{plot.title}, {plot.y_name}")


def _recipes(runs: Sequence[RunPart]) -> Section:
    summaries = [part.summary for part in runs]
    content = ""
    if len(runs) > 1:
        rows = [
            (key, *(NONE if value is None else show_value(value) for value in values))
            for key, values in differing_values(summaries)
        ]
        said = html.table(("", *names_of(runs)), rows, caption="What differs", runs_from=1, wraps=True)
        content = said if rows else "<p>The recipes are the same.</p>"
    for s in summaries:
        if s.recipe:
            toml = "\n".join(map(html.text, recipe_to_toml(s.recipe).splitlines()))
            content += html.details(f"The whole recipe of {s.name}", f"<pre>{toml}</pre>")
    return ("recipes", "Recipes", content) if content else None


def _pictures(runs: Sequence[RunPart]) -> Section:
    measured = measured_of(runs)
    if not measured:
        return None
    text = "<p>Val images, evenly spread over the classes, with the first guess and its probability.</p>"
    return "pictures", "Pictures and predictions", text + html.gallery(sample_tiles(runs, measured))


def _worst(runs: Sequence[RunPart]) -> Section:
    content = ""
    for n, outcome in measured_of(runs):
        title = f"<h3>{html.chip(n)}{html.text(runs[n].summary.name)}</h3>" if len(runs) > 1 else ""
        tiles = worst_tiles(outcome)
        content += title + (html.gallery(tiles) if tiles else "<p>It made no mistake.</p>")
    text = "<p>The model's most confident mistakes: often the label is wrong.</p>"
    return ("worst", "Worst mistakes", text + content) if content else None


def _seen(seen: Sequence[Gallery]) -> Section:
    content = "".join(f"<h3>{html.text(g.title)}</h3><p>{html.text(g.text)}</p>{html.gallery(g.tiles)}" for g in seen)
    return ("seen", "What the network sees in training", content) if content else None


def _machine(runs: Sequence[RunPart]) -> Section:
    known = [part.summary.metadata.environment if part.summary.metadata else {} for part in runs]
    keys: dict[str, None] = dict.fromkeys(key for environment in known for key in environment)
    rows = [(key, *(environment.get(key, NONE) for environment in known)) for key in keys]
    if not rows:
        return None
    table = html.table(
        ("", *names_of(runs)), rows, caption="As the newest checkpoint recorded them", runs_from=1, wraps=True
    )
    return "machine", "Machine and versions", table
