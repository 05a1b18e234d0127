"""HTML fragments: all foreign text is escaped here, and inserted into HTML nowhere else."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from resnetctl.errors import printable

if TYPE_CHECKING:
    import numpy as np

    from resnetctl.suites.sheet import Tile

_SIDE = 192
"""Pixels of an image's longer side in the page."""
_SHOWN_AT = 128
"""Smaller images are enlarged to this, each pixel to a square."""


def text(value: object) -> str:
    """`value` as HTML text, also inside an attribute's quotes."""
    return html.escape(printable(value))


def table(
    head: Sequence[object],
    rows: Iterable[Sequence[object]],
    *,
    caption: str,
    runs_from: int | None = None,
    wraps: bool = False,
) -> str:
    """A table whose first column names the rows; columns from `runs_from` on stand for runs and have their colours.

    With `wraps` long cells are wrapped; else the table scrolls in a narrow window.
    """
    cells = [
        f'<th scope="col">{chip(n - runs_from) if runs_from is not None and n >= runs_from else ""}{text(name)}</th>'
        for n, name in enumerate(head)
    ]
    lines = [
        f'<tr><th scope="row">{text(first)}</th>{"".join(f"<td>{text(cell)}</td>" for cell in rest)}</tr>'
        for first, *rest in rows
    ]
    # the keyboard scrolls the focused element
    return (
        f'<div class="wide{"" if wraps else " figures"}" tabindex="0" role="region" aria-label="{text(caption)}">'
        f"<table><caption>{text(caption)}</caption><thead><tr>{''.join(cells)}</tr></thead>"
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def details(summary: str, content: str) -> str:
    """`content`, collapsed."""
    return f"<details><summary>{text(summary)}</summary>{content}</details>"


def plot(title: str, svg: str, behind: str, note: str = "") -> str:
    """A plot with its title and data table."""
    said = f"<p>{text(note)}</p>" if note else ""
    return (
        f'<figure class="plot"><figcaption>{text(title)}</figcaption>{svg}{said}{details("Numbers", behind)}</figure>'
    )


def chip(run: int) -> str:
    """A spot in a run's colour."""
    return f'<span class="chip" style="background:var(--run-{run})" aria-hidden="true"></span>'


def gallery(tiles: Sequence[Tile]) -> str:
    """Images side by side, each with its heading and lines."""
    return f'<ul class="gallery">{"".join(map(_tile, tiles))}</ul>'


def _tile(tile: Tile) -> str:
    lines = "".join(
        f'<li class="{line.mood or "plain"}" style="--share:{100 * line.share:.0f}%">'
        f"{_SPOKEN[line.mood]}{text(line.text)}</li>"
        for line in tile.lines
    )
    if tile.image is None:
        shown = '<div class="missing">cannot be read</div>'
    else:
        height, width = tile.image.shape[:2]
        small = ' class="small"' if max(height, width) < _SHOWN_AT else ""
        shown = f'<img{small} src="{data_uri(tile.image)}" alt="Image: {text(tile.heading)}">'
    return f"<li><figure>{shown}<figcaption>{text(tile.heading)}<ul>{lines}</ul></figcaption></figure></li>"


_SPOKEN = {
    "": "",
    "good": '<span class="mark" aria-label="right">✓</span> ',
    "bad": '<span class="mark" aria-label="wrong">✗</span> ',
}


def data_uri(pixels: np.ndarray) -> str:
    """`[H, W, 3] uint8` as a data URI: PNG for tiny images, else a smaller JPEG."""
    from PIL import Image

    image = Image.fromarray(pixels)
    image.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    is_tiny = max(image.size) <= 64
    image.save(file, "PNG", optimize=True) if is_tiny else image.save(file, "JPEG", quality=82)
    kind = "png" if is_tiny else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"
