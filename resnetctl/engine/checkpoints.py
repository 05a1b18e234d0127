"""When and what a run saves."""

from __future__ import annotations

import time
from pathlib import Path

from resnetctl.engine.events import Saved
from resnetctl.engine.meter import Meter
from resnetctl.engine.run_state import RunState
from resnetctl.engine.saver import Saver
from resnetctl.engine.setup import RunSetup
from resnetctl.engine.timeline import Timeline
from resnetctl.engine.trainer import Trainer
from resnetctl.runs.commits import checkpoint_name, commits
from resnetctl.runs.metadata import Metadata, TrainedOn, best_of

_SHARE_FOR_THE_BEST = 0.01  # of a run's time: while saving has taken less, a new best is saved


class RunCheckpoints:
    """The checkpoints of one run; every rank has one, and the first rank writes."""

    def __init__(
        self,
        setup: RunSetup,
        timeline: Timeline,
        state: RunState,
        trainer: Trainer,
        meter: Meter,
        environment: dict[str, str | int],
    ) -> None:
        self.setup, self.timeline, self.state, self.trainer, self.meter = setup, timeline, state, trainer, meter
        self.environment = environment
        self.last_save = time.monotonic()
        self.saver = Saver(setup.run, setup.recipe.checkpoint.keep)

    @property
    def newest(self) -> Path:
        """The file saved last, or the one the run was resumed from."""
        commit = self.saver.commit
        return commit.path if commit else self.setup.run.checkpoints / checkpoint_name(self.state.step)

    def are_due_by_steps(self) -> bool:
        """Whether a save is due by steps, which every rank knows by itself."""
        every, state = self.setup.recipe.checkpoint.every_steps, self.state
        return bool(every) and state.step not in (0, state.resumed_from) and state.step % every == 0

    def are_due(self) -> bool:
        """Whether a save is due: by steps, by minutes, or for a new best result."""
        c, state = self.setup.recipe.checkpoint, self.state
        if not state.step or state.step == state.resumed_from:
            return False
        seconds = time.monotonic() - self.last_save
        due = self.are_due_by_steps() if c.every_steps else seconds >= 60 * c.every_minutes
        if due or state.best is None or state.best.step != state.step:
            return due
        # a short run has new bests all the time, and must not spend its time on saving
        seconds = self.saver.total_seconds + self.saver.seconds
        return seconds <= _SHARE_FOR_THE_BEST * (time.perf_counter() - self.meter.began)

    def save(self) -> list[Saved]:
        """Begin to save: the run continues while the checkpoint is written."""
        self.last_save = time.monotonic()
        tensors = self.trainer.tensors()
        if not self.setup.group.is_first:
            return []
        state = self.state
        kept = {state.step, *(commit.step for commit in commits(self.setup.run.checkpoints))}
        best = best_of([e for e in state.history if e.step in kept])
        spared = {step for step in (best.step if best else None, state.resumed_from) if step is not None}
        return self.saver.start(tensors, self._metadata(), spared)

    def _metadata(self) -> Metadata:
        setup, state = self.setup, self.state
        info = setup.train.info
        return Metadata(
            step=state.step,
            steps=self.timeline.steps_planned,
            epoch=self.timeline.epoch(state.step),
            last_read=state.last_read,
            recipe=setup.recipe,
            plain_torchvision_model=not setup.recipe.model.blurpool,
            classes=info.classes,
            class_names=info.class_names,
            data=TrainedOn(
                train=info.fingerprint,
                val=None if setup.val is None else setup.val.info.fingerprint,
                images=self.timeline.images,
            ),
            history=tuple(state.history),
            unreadable=tuple(sorted(state.unreadable)),
            environment=self.environment,
        )
