"""Formats bytes and seconds for people."""

import math


def duration(seconds: float) -> str:
    """`seconds` for people: `0.4 s`, `12 s`, `3 min 20 s`, `2 h 05 min`, `3 d 04 h`; `-` if unknown."""
    if not math.isfinite(seconds):
        return "-"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes = whole // 60
    if minutes < 60:
        return f"{minutes} min {whole % 60:02d} s"
    hours = minutes // 60
    return f"{hours} h {minutes % 60:02d} min" if hours < 48 else f"{hours // 24} d {hours % 24:02d} h"


def size(count: float) -> str:
    """`count` bytes in binary units: `512 B`, `3.2 MiB`, `137 GiB`."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(count) < 1024 or unit == "TiB":
            break
        count /= 1024
    return f"{count:.0f} {unit}" if unit == "B" or count >= 99.95 else f"{count:.1f} {unit}"
