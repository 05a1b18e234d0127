"""Agreement between ranks at every step, without waiting for each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from resnetctl.distributed.group import Group


class Agreement:
    """Maxima over all ranks: either one call later, when they have long arrived, or immediately.

    Every rank must make the same calls. A single process always gets them immediately.
    """

    def __init__(self, group: Group) -> None:
        self._group = group
        self._begun: Callable[[], list[int]] | None = None

    def later(self, values: Sequence[int]) -> list[int]:
        """The maxima of the previous call's values, zeros at first."""
        if self._group.size == 1:
            return list(values)
        before, self._begun = self._begun, self._group.begin_max(values)
        return [0] * len(values) if before is None else before()

    def now(self, values: Sequence[int]) -> list[int]:
        """The maxima of these values and of the previous call's, if still pending; waits for all ranks."""
        before, self._begun = self._begun, None
        given = [max(pair) for pair in zip(values, before(), strict=True)] if before else values
        return self._group.all_max(given)
