"""`quarantine.jsonl` in the data root: the images that `verify` found bad, which training skips, and why.

The indexes record which samples these are; this file is for people, one JSON object per line.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from resnetctl.errors import DataError, printable
from resnetctl.typed_json import decode_text, encode

QUARANTINE_FILE = "quarantine.jsonl"
_MAX_BYTES = 1 << 30


@dataclass(frozen=True)
class BadImage:
    """An image that cannot be trained on, and why."""

    split: str
    name: str = field(metadata={"json": "sample"})
    """`<class>/<file>`, the sample's name in the index."""
    container: str = field(metadata={"json": "file"})
    """The file that holds it, relative to the images' root."""
    reason: str


def quarantine_path(data_root: Path) -> Path:
    """The path of the list."""
    return data_root / QUARANTINE_FILE


def read_quarantine(data_root: Path) -> list[BadImage]:
    """The list, or an empty one. Raises DataError if the file is damaged or another program's."""
    path = quarantine_path(data_root)
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ValueError("it is far too long")
        lines = path.read_text(encoding="utf-8").splitlines()
        return [decode_text(BadImage, line, f"line {number}") for number, line in enumerate(lines, 1)]
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise DataError(
            f"{printable(path)} cannot be read: {printable(error)}",
            hint="move it, then run: resnetctl verify",
        ) from error


def encode_quarantine(bad: list[BadImage]) -> bytes:
    """The content of `quarantine.jsonl`; characters that are not UTF-8 are kept as JSON escapes."""
    return "".join(json.dumps(encode(image)) + "\n" for image in bad).encode()
