"""A contact sheet: images in rows, each with a heading and a few lines below it, as one image file."""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from resnetctl.errors import UsageError, printable
from resnetctl.files import check_new_file, write_atomically

MOST = 200
"""Images on one sheet."""

_SIDE, _GAP, _FONT, _LINE = 224, 14, 13, 19  # pixels
_COLUMNS = 5
_INK, _FAINT, _PAPER, _FRAME = "#1c1c1c", "#6a6a6a", "#ffffff", "#e9e9e9"
_COLOURS = {"": "#dbe7f6", "good": "#cfe8cf", "bad": "#f6d5d1"}
# Pillow's built-in font has only English letters
_WIDE_FONTS = (
    "NotoSansCJK-Regular.ttc",
    "DejaVuSans.ttf",
    "NotoSans-Regular.ttf",
    "LiberationSans-Regular.ttf",
    "Arial Unicode.ttf",
    "Arial.ttf",
    "arial.ttf",
)


class Line(NamedTuple):
    """A line below an image."""

    text: str
    share: float = 0.0
    """Length of the bar behind the text, 0 to 1."""
    mood: str = ""
    """The bar's colour: "good", "bad" or ""."""


class Tile(NamedTuple):
    """An image of the sheet."""

    image: np.ndarray | None
    """`[H, W, 3] uint8`; None if it cannot be read."""
    heading: str
    lines: tuple[Line, ...]


def check_sheet(path: Path) -> None:
    """Raise UsageError if a sheet cannot be written to `path`: not an image name, or an existing file."""
    if path.suffix.lower() not in (".png", ".jpg", ".jpeg", ".webp"):
        raise UsageError(f"{printable(path)} is not the name of an image file", hint="--sheet FILE.png")
    check_new_file(path)


def write_sheet(path: Path, tiles: Sequence[Tile]) -> None:
    """Draw `tiles` (at most MOST) and write them to `path`. Raises UsageError as `check_sheet`."""
    check_sheet(path)
    file = io.BytesIO()
    kind = {".png": "PNG", ".webp": "WEBP"}.get(path.suffix.lower(), "JPEG")
    draw_sheet(tiles).save(file, kind)
    write_atomically(path, file.getvalue())


def draw_sheet(tiles: Sequence[Tile]) -> Image.Image:
    """`tiles` in rows of five."""
    assert 0 < len(tiles) <= MOST
    columns = min(_COLUMNS, len(tiles))
    rows = -(-len(tiles) // columns)
    height = _SIDE + _LINE * (1 + max(len(t.lines) for t in tiles)) + 6
    sheet = Image.new("RGB", (columns * (_SIDE + _GAP) + _GAP, rows * (height + _GAP) + _GAP), _PAPER)
    draw = ImageDraw.Draw(sheet)
    for n, tile in enumerate(tiles):
        left, top = _GAP + n % columns * (_SIDE + _GAP), _GAP + n // columns * (height + _GAP)
        _draw_image(sheet, draw, tile, left, top)
        top += _SIDE + 4
        _write(draw, left, top, tile.heading, _FAINT)
        for i, line in enumerate(tile.lines, 1):
            y = top + i * _LINE
            width = round(_SIDE * min(1.0, max(0.0, line.share)))
            if width:
                draw.rectangle((left, y, left + width - 1, y + _LINE - 3), fill=_COLOURS[line.mood])
            _write(draw, left + 3, y, line.text, _INK)
    return sheet


def _draw_image(sheet: Image.Image, draw: ImageDraw.ImageDraw, tile: Tile, left: int, top: int) -> None:
    draw.rectangle((left, top, left + _SIDE - 1, top + _SIDE - 1), fill=_FRAME)
    if tile.image is None:
        _write(draw, left + 8, top + _SIDE // 2 - _FONT // 2, "cannot be read", _FAINT)
        return
    h, w = tile.image.shape[:2]
    scale = _SIDE / max(h, w)
    size = max(1, round(w * scale)), max(1, round(h * scale))
    small = Image.fromarray(tile.image).resize(size, Image.Resampling.LANCZOS)
    sheet.paste(small, (left + (_SIDE - size[0]) // 2, top + (_SIDE - size[1]) // 2))


def _write(draw: ImageDraw.ImageDraw, x: int, y: int, text: str, colour: str) -> None:
    """One line of `text`, cut at the end of the tile."""
    text = printable(text)
    font = _font(text.isascii())
    if font.getlength(text) > _SIDE - 6:
        while text and font.getlength(text + "...") > _SIDE - 6:
            text = text[:-1]
        text += "..."
    draw.text((x, y), text, fill=colour, font=font)


@cache
def _font(ascii_only: bool) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    for name in () if ascii_only else _WIDE_FONTS:
        try:
            return ImageFont.truetype(name, _FONT)
        except OSError:
            continue
    return ImageFont.load_default(_FONT)
