"""The plots, drawn by Matplotlib: as SVG in the colours of the page's CSS variables, and as PNG in the light ones."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from resnetctl.errors import ResnetctlError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_CURVES = 8
_WIDTH = 4.6  # inches of 100 px: readable on a phone, where it is shrunk a little, and in two columns
_DPI = 100
_PNG_DPI = 200
_DASHES = ("-", "--", "-.", ":", "-", "--", "-.", ":")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")

_LIGHT = {
    "ink": "#1c2430",
    "soft": "#5a6472",
    "line": "#d8dde4",
    "paper": "#ffffff",
    "run-0": "#1f5fbf",
    "run-1": "#c2570c",
    "run-2": "#1a7f4b",
    "run-3": "#7a3fb0",
    "run-4": "#b3261e",
    "run-5": "#0b7285",
    "run-6": "#7a5c1e",
    "run-7": "#5b6472",
}
# what stands in the SVG until the CSS variables take its place: colours that nothing else has
_NAMED = {name: f"#fe{n:02x}fd" for n, name in enumerate(_LIGHT)}


@dataclass(frozen=True)
class Curve:
    """One run in a plot."""

    name: str
    points: Sequence[tuple[float, float]]
    """(x, y), all finite."""
    colour: int = 0
    """The number of its run, which keeps its colour, dash and marker from plot to plot."""


@dataclass(frozen=True, kw_only=True)
class Bars:
    """Horizontal bars from 0, the first one on top."""

    values: Sequence[float]
    labels: Sequence[str]
    intervals: Sequence[tuple[float, float]] = ()
    """The lower and upper end of each one's interval."""


Colours = dict[str, str]
Drawing = Callable[[Colours], "Figure"]


def check_library() -> None:
    """Raise ResnetctlError where Matplotlib is not installed."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise ResnetctlError(
            "the plots of a report need Matplotlib, which is not installed",
            hint="pip install 'resnetctl[report]'",
        ) from None


# --- drawings: each gives a function from colours to a figure --------------------------------------------------------


def lines(curves: Sequence[Curve], *, x_name: str, y_name: str, from_zero: bool = False) -> Drawing:
    """Curves over one axis; with few points each one is marked."""

    def draw(colours: Colours) -> Figure:
        figure, axes = _figure(colours, height=2.7)
        for curve in curves:
            n = curve.colour % MOST_CURVES
            few = len(curve.points) <= 40
            x, y = zip(*curve.points, strict=True)
            axes.plot(
                x,
                y,
                _DASHES[n],
                color=colours[f"run-{n}"],
                label=_shortened(curve.name),
                linewidth=1.6,
                marker=_MARKERS[n] if few else None,
                markersize=4,
            )
        if from_zero:
            axes.set_ylim(bottom=0)
        axes.set_xlabel(x_name)
        axes.set_ylabel(y_name)
        if len(curves) > 1:
            axes.legend(frameon=False, fontsize=9, labelcolor=colours["ink"])
        return figure

    return draw


def bars(data: Bars, *, x_name: str, most: float | None = None) -> Drawing:
    """Horizontal bars with their labels, and an interval across the end of each."""

    def draw(colours: Colours) -> Figure:
        figure, axes = _figure(colours, height=0.9 + 0.24 * len(data.values))
        places = range(len(data.values))
        axes.barh(places, data.values, height=0.7, color=colours["run-0"])
        for n, (low, high) in enumerate(data.intervals):
            axes.plot((low, high), (n, n), color=colours["ink"], linewidth=1)
        axes.set_yticks(places, [_shortened(label) for label in data.labels])
        axes.set_ylim(len(data.values) - 0.5, -0.5)
        axes.set_xlim(0, most)
        axes.set_xlabel(x_name)
        axes.grid(visible=False, axis="y")
        return figure

    return draw


def histogram(values: Sequence[float], *, bins: Sequence[float], x_name: str, y_name: str) -> Drawing:
    """How many of `values` lie in each bin."""

    def draw(colours: Colours) -> Figure:
        figure, axes = _figure(colours, height=2.7)
        axes.hist(values, bins=list(bins), color=colours["run-0"], edgecolor=colours["paper"])
        axes.set_xlabel(x_name)
        axes.set_ylabel(y_name)
        return figure

    return draw


def matrix(shares: Sequence[Sequence[float]], counts: Sequence[Sequence[int]], labels: Sequence[str]) -> Drawing:
    """A confusion matrix: a row is a class, a column what it was taken for; the darker, the larger the row's share."""

    def draw(colours: Colours) -> Figure:
        from matplotlib.patches import Rectangle

        figure, axes = _figure(colours, height=1.2 + 0.3 * len(labels))
        for row, line in enumerate(shares):
            for column, share in enumerate(line):
                if not counts[row][column]:
                    continue
                box = Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor=colours["run-0"], alpha=0.08 + 0.92 * share)
                axes.add_patch(box)
                ink = colours["paper" if share > 0.45 else "ink"]
                axes.text(column, row, str(counts[row][column]), ha="center", va="center", color=ink, fontsize=8)
        names = [_shortened(label, 14) for label in labels]
        axes.set_xticks(range(len(labels)), names, rotation=60, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(labels)), names)
        axes.set_xlim(-0.5, len(labels) - 0.5)
        axes.set_ylim(len(labels) - 0.5, -0.5)
        axes.set_xlabel("taken for")
        axes.set_ylabel("is")
        axes.grid(visible=False)
        return figure

    return draw


def reliability(bins: Sequence[tuple[float, float, int]]) -> Drawing:
    """How often predictions are right against how sure they are: (mean confidence, share right, images) per bin."""

    def draw(colours: Colours) -> Figure:
        figure, axes = _figure(colours, height=3.2)
        largest = max((images for _, _, images in bins), default=1)
        axes.plot((0, 100), (0, 100), ":", color=colours["soft"], linewidth=1.2)
        axes.plot([100 * c for c, _, _ in bins], [100 * r for _, r, _ in bins], "-", color=colours["run-0"])
        for confidence, right, images in bins:
            area = 12 + 90 * images / largest
            axes.scatter([100 * confidence], [100 * right], s=area, color=colours["run-0"], zorder=3)
        axes.set_xlim(0, 100)
        axes.set_ylim(0, 100)
        axes.set_xlabel("confidence, %")
        axes.set_ylabel("right, %")
        return figure

    return draw


def _figure(colours: Colours, height: float) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH, height), dpi=_DPI, layout="constrained", facecolor="none")
    axes = figure.add_subplot(facecolor="none")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(colours["soft"])
    axes.grid(color=colours["line"], linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=colours["soft"], labelcolor=colours["ink"], labelsize=9)
    axes.xaxis.label.set(color=colours["ink"], size=10)
    axes.yaxis.label.set(color=colours["ink"], size=10)
    return figure, axes


def _shortened(name: str, most: int = 24) -> str:
    """Matplotlib would read a `$` as the beginning of a formula."""
    short = name if len(name) <= most else f"{name[: most // 2]}…{name[len(name) - most // 2 + 1 :]}"
    return short.replace("$", r"\$")


# --- files ----------------------------------------------------------------------------------------------------------


def to_svg(drawing: Drawing, identity: str) -> str:
    """An `<svg>` element for a page that has `--ink` and the other variables; its own ids begin with `identity`."""
    text = _saved(drawing(_NAMED), identity, format="svg", metadata={"Date": None, "Creator": None}).decode()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r"<style.*?</style>", "", text, flags=re.DOTALL)
    text = re.sub(r"font-family: [^;\"]*", "font-family: var(--font)", text)
    text = re.sub(r"font: ([^;\"]*?px) [^;\"]*", r"font: \1 var(--font)", text)
    text = re.sub(r"\n\s+", "\n", text)
    text = re.sub(r'\b(id="|url\(#|href="#)', rf"\g<1>{identity}-", text)
    for name, colour in _NAMED.items():
        text = text.replace(colour, f"var(--{name})")
    return text.strip()


def to_png(drawing: Drawing) -> bytes:
    """The same as a PNG on white."""
    return _saved(drawing(_LIGHT), "", format="png", dpi=_PNG_DPI, facecolor=_LIGHT["paper"])


def _saved(figure: Figure, salt: str, **how: Any) -> bytes:
    import matplotlib

    file = io.BytesIO()
    # text stays text: it can be found, and has the page's font; no date and no random ids: the same runs, the same file
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": salt, "font.family": "sans-serif"}):
        figure.savefig(file, **how)
    return file.getvalue()


def css_variables() -> str:
    """The light colours as CSS declarations."""
    return "".join(f"--{name}: {colour}; " for name, colour in _LIGHT.items())
