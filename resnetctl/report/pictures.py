"""The plots and pictures of a report as PNG files."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from resnetctl.report import curves, plots, result
from resnetctl.report.contents import GENERATOR, Contents, measured_of, names_of, sample_tiles, worst_tiles

if TYPE_CHECKING:
    from resnetctl.suites.sheet import Tile


def pictures(contents: Contents) -> dict[str, bytes]:
    """File name to PNG: every plot, and a sheet for each gallery."""
    runs, found = contents.runs, {}
    names = names_of(runs)
    if runs:
        summaries = [part.summary for part in runs]
        for over, drawn in (("epochs", curves.over_epochs(summaries)), ("time", curves.over_time(summaries))):
            for plot in drawn:
                if not plot.is_empty:
                    name = plot.title.lower().replace(" ", "-")
                    found[f"{name}-over-{over}.png"] = plots.png(plot, names, GENERATOR)
    measured = measured_of(runs)
    if measured:
        found["classes.png"] = plots.png(result.class_bars(measured), names, GENERATOR)
        found["calibration.png"] = plots.png(result.calibration(measured), names, GENERATOR)
        for n, outcome in measured:
            matrix = result.confusion(n, outcome, f"What {names[n]} takes for what")
            if matrix:
                found[f"confusion-{names[n]}.png"] = plots.png(matrix, names, GENERATOR)
        found["pictures.png"] = _sheet(sample_tiles(runs, measured))
        for n, outcome in measured:
            if tiles := worst_tiles(outcome):
                found[f"worst-{names[n]}.png"] = _sheet(tiles)
    for n, gallery in enumerate(contents.seen, 1):
        found[f"seen-{n}.png"] = _sheet(gallery.tiles)
    return found


def _sheet(tiles: Sequence[Tile]) -> bytes:
    from PIL.PngImagePlugin import PngInfo

    from resnetctl.suites.sheet import draw_sheet

    info, file = PngInfo(), io.BytesIO()
    info.add_text("Software", GENERATOR)
    draw_sheet(tiles).save(file, "PNG", pnginfo=info)
    return file.getvalue()
