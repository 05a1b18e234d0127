"""Imagewoof: like Imagenette, with ten breeds of dogs."""

from __future__ import annotations

from pathlib import Path

from resnetctl.data.sources.imagenette import open_source, recognise_family

__all__ = ["open_source", "recognise"]


def recognise(path: Path) -> bool:
    """Whether `path` is one of Imagewoof's archives, or a folder that holds one."""
    return recognise_family(path, "imagewoof2")
