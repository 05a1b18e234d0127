"""A run's progress and results so far."""

from __future__ import annotations

from dataclasses import dataclass, field

from resnetctl.runs.metadata import Evaluation, Metadata, best_of


@dataclass(kw_only=True)
class RunState:
    """Everything but tensors that a run resumes from."""

    step: int = 0
    """Steps done."""
    last_read: int = 0
    """The step after which the loss was last read."""
    history: list[Evaluation] = field(default_factory=list)
    unreadable: set[int] = field(default_factory=set)
    """Train samples that could not be read."""
    resumed_from: int | None = None
    """The step of the checkpoint that this process resumed from."""

    @classmethod
    def of(cls, metadata: Metadata) -> RunState:
        """The state when `metadata` was written."""
        return cls(
            step=metadata.step,
            last_read=metadata.last_read,
            history=list(metadata.history),
            unreadable=set(metadata.unreadable),
            resumed_from=metadata.step,
        )

    @property
    def is_evaluated(self) -> bool:
        """Whether the present model was evaluated."""
        return any(e.step == self.step for e in self.history)

    @property
    def best(self) -> Evaluation | None:
        """The evaluation with the highest top-1, the latest of equal ones."""
        return best_of(self.history)
