"""Imagewoof: like Imagenette, with ten breeds of dogs."""

from __future__ import annotations

from pathlib import Path

from resnetctl.data.sources.imagenette import open_source, recognise_family  # noqa: F401 - of a SourceModule


def recognise(path: Path) -> bool:
    """Whether `path` is one of Imagewoof's archives, or a folder that holds one."""
    return recognise_family(path, "imagewoof2")
