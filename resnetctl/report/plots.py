"""Matplotlib plots: as SVG whose colours the page sets, and as PNG."""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, NamedTuple

from resnetctl.errors import needs_package, printable

if TYPE_CHECKING:
    from resnetctl.report.curves import Plot
    from resnetctl.report.result import Bars, Calibration, Matrix

    Drawn = Plot | Bars | Matrix | Calibration


class Palette(NamedTuple):
    """The colours of a plot."""

    ink: str
    faint: str
    grid: str
    runs: tuple[str, ...]
    """One for each run."""


_PAGE = Palette("#010101", "#020202", "#030303", tuple(f"#0a000{n}" for n in range(8)))
"""Placeholders for the page's colours, replaced by its names for them."""
_NAMES = {
    **{_PAGE.ink: "ink", _PAGE.faint: "faint", _PAGE.grid: "grid"},
    **{colour: f"run-{n}" for n, colour in enumerate(_PAGE.runs)},
}
_PAPER = Palette(
    "#1b1f24",
    "#5c6570",
    "#d5dade",
    # the first ones after Okabe and Ito's palette for the colour-blind
    ("#0067b0", "#c2410c", "#00805e", "#a8327f", "#8a6d00", "#2b8cbe", "#7a4b2a", "#5b5fc7"),
)
MOST_RUNS = len(_PAPER.runs)
_WIDTH, _HEIGHT = 3.9, 2.65  # inches of 100 px
_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.size": 9.5,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.facecolor": "none",
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "figure.dpi": 100,
    "figure.facecolor": "none",
}


def check_matplotlib() -> None:
    """Raise ResnetctlError if matplotlib is not installed."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise needs_package("a report", "matplotlib", "report") from None


def svg(plot: Drawn, title: str) -> str:
    """`plot` as an `<svg>` element labelled `title` for screen readers, its colours variables of the page's style.

    It contains neither the title nor the names of the runs, which the page shows.
    """
    file = io.StringIO()
    with _style(_PAGE, title):
        _draw(plot, _PAGE, None).savefig(file, format="svg", metadata=_NO_METADATA)
    text = file.getvalue()
    text = text[text.index("<svg") :].strip()
    text = re.sub(r' id="[a-zA-Z0-9.]+_\d+"', "", text)  # figure_1 and the like, in each of them
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    for colour, name in _NAMES.items():
        text = text.replace(colour, f"var(--{name})")
    from html import escape

    # the page sets its size
    head = re.sub(r' (width|height)="[^"]*"', "", text[: text.index(">")])
    return f'{head} role="img" aria-label="{escape(title)}"{text[text.index(">") :]}'


def png(plot: Drawn, runs: Sequence[str], software: str) -> bytes:
    """`plot` as a PNG file on white paper, with the names of the `runs`."""
    file = io.BytesIO()
    with _style(_PAPER, title=""):
        figure = _draw(plot, _PAPER, runs)
        figure.savefig(file, format="png", dpi=200, facecolor="white", metadata={"Software": software})
    return file.getvalue()


_NO_METADATA = {"Date": None, "Creator": None, "Format": None, "Type": None}


def _style(palette: Palette, title: str) -> AbstractContextManager[None]:
    import matplotlib as mpl

    faint = ("axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")
    settings: Any = {**_STYLE, **dict.fromkeys(faint, palette.faint), "grid.color": palette.grid}
    settings["svg.hashsalt"] = f"resnetctl {title}"  # for unique ids within a page
    settings |= {"text.color": palette.ink, "axes.titlecolor": palette.ink}
    context: AbstractContextManager[None] = mpl.rc_context(settings)
    return context


def _draw(plot: Drawn, palette: Palette, runs: Sequence[str] | None) -> Any:
    from matplotlib.figure import Figure

    from resnetctl.report.curves import Plot
    from resnetctl.report.result import Bars, Matrix

    height = _HEIGHT
    if isinstance(plot, Bars):
        height = 0.9 + 0.22 * len(plot.labels)
    elif isinstance(plot, Matrix):
        height = 1.2 + 0.26 * len(plot.labels)
    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    axes = figure.subplots()
    if runs is not None:
        axes.set_title(textwrap.fill(printable(plot.title), 44))
    if isinstance(plot, Plot):
        _draw_curves(axes, plot, palette, runs)
    elif isinstance(plot, Bars):
        _draw_bars(axes, plot, palette, runs)
    elif isinstance(plot, Matrix):
        _draw_matrix(axes, plot, palette)
    else:
        _draw_calibration(axes, plot, palette, runs)
    return figure


def _draw_curves(axes: Any, plot: Plot, palette: Palette, runs: Sequence[str] | None) -> None:
    for curve in plot.curves:
        if not curve.points:
            continue
        x, y = zip(*curve.points, strict=True)
        axes.plot(
            x,
            y,
            color=palette.runs[curve.run],
            linewidth=1.2 if curve.dashed else 1.9,
            linestyle=(0, (3, 1.6)) if curve.dashed else "-",
            marker="o" if curve.marked or len(x) == 1 else "",
            markersize=3.2,
        )
    axes.set_xlabel(plot.x_name)
    axes.set_ylabel(plot.y_name)
    if plot.from_zero and not plot.is_empty:
        axes.set_ylim(bottom=0)
    kinds = {curve.name: curve.dashed for curve in plot.curves if curve.name and curve.points}
    _legend(axes, palette, kinds, runs)


def _legend(axes: Any, palette: Palette, kinds: dict[str, bool], runs: Sequence[str] | None) -> None:
    """A legend for the strokes and, if the page has none, for the runs' colours."""
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=palette.faint, linestyle=(0, (3, 1.6)) if dashed else "-", label=name)
        for name, dashed in kinds.items()
    ]
    handles += [
        Line2D([], [], color=palette.runs[n], linewidth=3, label=printable(name)) for n, name in enumerate(runs or ())
    ]
    if handles:
        axes.legend(handles=handles, ncols=1 if runs else 2)


def _draw_bars(axes: Any, plot: Bars, palette: Palette, runs: Sequence[str] | None) -> None:
    count = len(plot.groups)
    thick = 0.8 / count
    places = range(len(plot.labels))
    for n, group in enumerate(plot.groups):
        at = [place + thick * (n - (count - 1) / 2) for place in places]
        axes.barh(at, group.values, height=thick * 0.88, color=palette.runs[group.run], alpha=0.85)
        errors = [
            [max(0.0, v - low) for v, low in zip(group.values, group.low, strict=True)],
            [max(0.0, high - v) for v, high in zip(group.values, group.high, strict=True)],
        ]
        axes.errorbar(
            group.values, at, xerr=errors, fmt="none", ecolor=palette.ink, elinewidth=0.8, capsize=0, alpha=0.75
        )
    axes.set_yticks(list(places), [_cut(label) for label in plot.labels])
    axes.set_ylim(len(plot.labels) - 0.4, -0.6)
    axes.set_xlim(0, 100)
    axes.set_xlabel(plot.x_name)
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)
    if runs and count > 1:
        _legend(axes, palette, {}, runs)


def _draw_matrix(axes: Any, plot: Matrix, palette: Palette) -> None:
    from matplotlib.patches import Rectangle

    colour, size = palette.runs[plot.run], len(plot.labels)
    small = size > 12
    for row, counts in enumerate(plot.counts):
        total = max(1, plot.totals[row])
        for column, count in enumerate(counts):
            if not count:
                continue
            share = count / total
            axes.add_patch(
                Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor=colour, alpha=0.06 + 0.64 * share, linewidth=0)
            )
            axes.text(column, row, count, ha="center", va="center", color=palette.ink, fontsize=6 if small else 8)
    axes.set_xlim(-0.5, size - 0.5)
    axes.set_ylim(size - 0.5, -0.5)
    axes.set_xticks(range(size), [_cut(label, 14) for label in plot.labels], rotation=50, ha="right")
    axes.set_yticks(range(size), [_cut(label) for label in plot.labels])
    if small:
        axes.tick_params(labelsize=7)
    axes.tick_params(length=0)
    axes.grid(visible=False)
    axes.set_xlabel("taken for")
    axes.set_ylabel("is")


def _draw_calibration(axes: Any, plot: Calibration, palette: Palette, runs: Sequence[str] | None) -> None:
    axes.plot((0, 100), (0, 100), color=palette.faint, linewidth=1, linestyle=(0, (2, 2)))
    for curve, images in zip(plot.curves, plot.images, strict=True):
        x, y = zip(*curve.points, strict=True)
        colour, most = palette.runs[curve.run], max(images)
        axes.plot(x, y, color=colour, linewidth=1.3)
        # points of few images are unreliable
        axes.scatter(x, y, [3 + 70 * n / most for n in images], color=colour, alpha=0.75, linewidths=0, clip_on=False)
    axes.set_xlim(0, 100)
    axes.set_ylim(0, 100)
    axes.set_xlabel("probability, %")
    axes.set_ylabel("% right")
    if runs:
        _legend(axes, palette, {}, runs)


def _cut(text: str, most: int = 20) -> str:
    text = printable(text)
    return text if len(text) <= most else text[: most - 1] + "…"
