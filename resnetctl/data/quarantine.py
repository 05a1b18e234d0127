"""`quarantine.jsonl` in the data root: the images that `verify` found bad, which training leaves out, and why.

The indexes hold which samples these are; this file says it to people, one JSON object a line.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from resnetctl.errors import DataError, printable

QUARANTINE_FILE = "quarantine.jsonl"
_MAX_BYTES = 1 << 30


class BadImage(NamedTuple):
    """An image that cannot be trained on, and why."""

    split: str
    name: str
    """`<class>/<file>`, the sample's name in the index."""
    container: str
    """The file that holds it, relative to the images' root."""
    reason: str


def quarantine_path(data_root: Path) -> Path:
    """Where the list lies."""
    return data_root / QUARANTINE_FILE


def read_quarantine(data_root: Path) -> list[BadImage]:
    """The list, empty where there is none. Raises DataError where the file is damaged or another program's."""
    path = quarantine_path(data_root)
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ValueError("it is far too long")
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return [BadImage(*(_string(row[key]) for key in ("split", "sample", "file", "reason"))) for row in rows]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(
            f"{printable(path)} cannot be read: {printable(error)}",
            hint="move it, then run: resnetctl verify",
        ) from error


def _string(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("a value is no text")
    return value


def encode_quarantine(bad: list[BadImage]) -> bytes:
    """What `quarantine.jsonl` holds; characters that are no UTF-8 are kept as JSON escapes."""
    rows = ({"split": b.split, "sample": b.name, "file": b.container, "reason": b.reason} for b in bad)
    return "".join(json.dumps(row) + "\n" for row in rows).encode()
