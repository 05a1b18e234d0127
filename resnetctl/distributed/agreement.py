"""What the ranks agree on step by step, without waiting for each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from resnetctl.distributed.group import Group


class Agreement:
    """Numbers of all ranks, of which each learns the maximum: a call later, when it has long arrived, or now.

    Every rank must make the same calls. A process on its own always learns it now.
    """

    def __init__(self, group: Group) -> None:
        self._group = group
        self._begun: Callable[[], list[int]] | None = None

    def later(self, values: Sequence[int]) -> list[int]:
        """What the ranks gave at the call before this one, zeros at first."""
        if self._group.size == 1:
            return list(values)
        before, self._begun = self._begun, self._group.begin_max(values)
        return [0] * len(values) if before is None else before()

    def now(self, values: Sequence[int]) -> list[int]:
        """What they give now, and gave at the call before it that was not told yet; waits for all."""
        before, self._begun = self._begun, None
        given = [max(pair) for pair in zip(values, before(), strict=True)] if before else values
        return self._group.all_max(given)
