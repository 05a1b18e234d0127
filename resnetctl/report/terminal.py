"""Curves in a terminal, in plain characters: no colour and nothing beyond ASCII is needed to read them."""

from __future__ import annotations

import math
from collections.abc import Sequence

Points = Sequence[tuple[float, float]]

_LABEL = 8  # columns of the numbers at the left


def plot(title: str, curves: Sequence[tuple[str, str, Points]], *, width: int, height: int, x_name: str) -> str:
    """Lines of at most `width` columns that show `curves`: (character, name, points of (x, y)).

    A later curve is drawn over an earlier one. Points that are not finite are left out; where none is left, so is
    the whole plot but for its title.
    """
    curves = [(mark, name, [p for p in points if all(map(math.isfinite, p))]) for mark, name, points in curves]
    head = title + "".join(f"   {mark} {name}" for mark, name, points in curves if points)
    every = [p for _, _, points in curves for p in points]
    if not every:
        return f"{title}: nothing measured yet"
    columns = max(16, width - _LABEL - 2)
    low_x, high_x = min(x for x, _ in every), max(x for x, _ in every)
    low_y, high_y = min(y for _, y in every), max(y for _, y in every)
    field = [[" "] * columns for _ in range(height)]
    for mark, _, points in curves:
        for x, y in points:
            column = round((columns - 1) * _share(x, low_x, high_x))
            field[height - 1 - round((height - 1) * _share(y, low_y, high_y))][column] = mark
    lines = [head]
    for row, cells in enumerate(field):
        value = high_y - (high_y - low_y) * row / (height - 1)
        label = _short(value) if row in (0, height // 2, height - 1) else ""
        lines.append(f"{label:>{_LABEL}} |{''.join(cells)}".rstrip())
    lines.append(" " * _LABEL + " +" + "-" * columns)
    left, right = f"{_short(low_x)}", f"{_short(high_x)} {x_name}"
    lines.append(" " * (_LABEL + 2) + left + right.rjust(columns - len(left)))
    return "\n".join(lines)


def _share(value: float, low: float, high: float) -> float:
    return (value - low) / (high - low) if high > low else 0.5


def _short(value: float) -> str:
    """Three or four digits that matter: `0.584`, `82.6`, `1,281`."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
