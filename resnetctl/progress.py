"""How long-running work tells how far it is, without knowing who shows it."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int | None], None]
"""`progress(what, done, total)`: called often and cheap; `total` is None if it is not known beforehand."""


def silent(what: str, done: int, total: int | None) -> None:
    """Show nothing."""
