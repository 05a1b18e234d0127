"""The page's section on evaluation: scores, classes, calibration, confusion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from resnetctl.report import html, plots, result
from resnetctl.report.contents import RunPart, Section, measured_of, names_of

if TYPE_CHECKING:
    from resnetctl.suites.outcome import Outcome


def evaluation(runs: Sequence[RunPart]) -> Section:
    """The results measured for the report, and the reasons for missing ones."""
    measured, names = measured_of(runs), names_of(runs)
    content = "".join(
        f'<p class="note">{html.text(p.summary.name)} was not evaluated: {html.text(p.why_not)}. '
        "Its curves were logged during training.</p>"
        for p in runs
        if p.why_not
    )
    if measured:
        content += _scores(measured, names)
        bars = result.class_bars(measured)
        cal = result.calibration(measured)
        errors = ", ".join(
            f"{names[c.run]} {e:.1f} %" if len(measured) > 1 else f"{e:.1f} %"
            for c, e in zip(cal.curves, cal.errors, strict=True)
        )
        drawn = html.plot(bars.title, plots.svg(bars, bars.title), _bar_table(bars, names))
        drawn += html.plot(
            cal.title,
            plots.svg(cal, f"{cal.title}: {', '.join(names)}"),
            _calibration_table(cal, names),
            "On the dashed line, predictions of probability 80 % are right 80 times in 100; below it the model is "
            f"overconfident. Expected calibration error: {errors}.",
        )
        for n, outcome in measured:
            matrix = result.confusion(n, outcome, f"What {names[n]} takes for what")
            if matrix:
                drawn += html.plot(matrix.title, plots.svg(matrix, matrix.title), _matrix_table(matrix))
        content += f'<div class="plots tall">{drawn}</div>'
    return ("evaluation", "On the val images", content) if content else None


def _scores(measured: Sequence[tuple[int, Outcome]], names: Sequence[str]) -> str:
    from resnetctl.suites.outcome import compared
    from resnetctl.suites.statistics import wilson_interval

    rows = []
    for _, o in measured:
        low, high = wilson_interval(o.correct1, o.images)
        low5, high5 = wilson_interval(o.correct5 or 0, o.images)
        rows.append(
            (
                o.model,
                f"{o.top1:.2f} %",
                f"{low:.2f} to {high:.2f}",
                f"{o.top5:.2f} %",
                f"{low5:.2f} to {high5:.2f}",
                f"{o.loss:.4f}",
                f"{o.images:,}",
            )
        )
    head = ("model", "top-1", "95 % interval", "top-5", "95 % interval", "loss", "images")
    content = html.table(head, rows, caption="Measured for this report")
    notes = [f"{o.model}: {text}" for _, o in measured for text in (*o.notes, *o.caveats)]
    content += "".join(f'<p class="note">{html.text(note)}</p>' for note in notes)
    first_run, first = measured[0]
    pairs = []
    for run, other in measured[1:]:
        c = compared(other, first)
        if c:
            pairs.append(
                (
                    f"{names[run]} against {names[first_run]}",
                    f"{c.difference:+.2f}",
                    f"{c.interval[0]:+.2f} to {c.interval[1]:+.2f}",
                    f"{c.only_first:,}",
                    f"{c.only_second:,}",
                    f"{c.p_value:.2g}",
                )
            )
    if pairs:
        columns = ("", "difference of top-1", "95 % interval", "only it is right", "only the other", "p (McNemar)")
        content += html.table(columns, pairs, caption="On the same images")
    return content


def _bar_table(bars: result.Bars, names: Sequence[str]) -> str:
    head = ["class"]
    for group in bars.groups:
        head += [names[group.run], "95 % interval"]
    rows = []
    for n, label in enumerate(bars.labels):
        cells = [label]
        for g in bars.groups:
            cells += [f"{g.values[n]:.1f} %", f"{g.low[n]:.1f} to {g.high[n]:.1f}"]
        rows.append(cells)
    return html.table(head, rows, caption=bars.title)


def _calibration_table(cal: result.Calibration, names: Sequence[str]) -> str:
    parts = []
    for curve, images, error in zip(cal.curves, cal.images, cal.errors, strict=True):
        rows = [(f"{x:.1f} %", f"{y:.1f} %", f"{n:,}") for (x, y), n in zip(curve.points, images, strict=True)]
        title = f"{names[curve.run]}: expected calibration error {error:.2f} %"
        parts.append(html.table(("mean probability", "right", "images"), rows, caption=title))
    return "".join(parts)


def _matrix_table(matrix: result.Matrix) -> str:
    rows = [(label, *counts) for label, counts in zip(matrix.labels, matrix.counts, strict=True)]
    return html.table(("is, and is taken for", *matrix.labels), rows, caption=matrix.title)
