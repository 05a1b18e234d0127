"""How long-running work reports progress, independently of its display."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int | None], None]
"""`progress(what, done, total)`: called often and cheap; `total` is None if unknown."""


def silent(what: str, done: int, total: int | None) -> None:
    """Show nothing."""
