"""Evaluation during training: when, and what is recorded and reported."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

from resnetctl.engine.device import peak_memory
from resnetctl.engine.evaluate import Result, eval_batch, eval_batches, evaluate, why_invalid
from resnetctl.engine.events import Evaluated, Event, Notice
from resnetctl.engine.run_state import RunState
from resnetctl.engine.setup import RunSetup
from resnetctl.engine.signals import StopRequest
from resnetctl.engine.timeline import Timeline
from resnetctl.engine.trainer import Trainer
from resnetctl.recipe_published import falls_short, published_top1
from resnetctl.runs.metadata import Evaluation

EVAL_SPEEDUP = 3.0
"""An evaluation's rate is about that of training times this: a forward pass is a third of a step's work."""


_COMPILE_FROM = 1_000_000
"""Images evaluated in a whole run from which compiling, which takes about half a minute, pays off."""


class Validation:
    """The evaluations of one run on its val split; every rank has one."""

    def __init__(
        self, setup: RunSetup, timeline: Timeline, state: RunState, trainer: Trainer, stop: StopRequest
    ) -> None:
        self.setup, self.recipe, self.timeline, self.state = setup, setup.recipe, timeline, state
        self.trainer, self.stop = trainer, stop
        self.seconds = 0.0
        """Duration of the last evaluation."""
        self._losses = _Losses()

    def note_loss(self, loss: float, steps: int) -> None:
        """Record the mean training loss of the last `steps` steps."""
        self._losses.read(loss * steps, steps)

    def is_due(self) -> bool:
        """Whether to evaluate the present model now."""
        return (
            self.setup.val is not None
            and not self.state.is_evaluated
            and self.timeline.evaluates_after(self.state.step)
        )

    def measure(self) -> Iterator[Event]:
        """Evaluate the model, and its moving average if there is one; both are recorded, and the last one counts."""
        assert self.setup.val is not None
        self.trainer.share_buffers()
        results: list[Result] = []
        models = self.trainer.in_use(self._compiled_batch())
        for model in models:
            events = evaluate(
                model,
                eval_batches(self.recipe, self.setup.val, self.setup.device, self.setup.group),
                workers=self.setup.workers,
                stopped=lambda: self.stop.signal is not None,
                group=self.setup.group,
                timeout=self.recipe.data.timeout_seconds,
            )
            for event in events:
                if isinstance(event, Result):
                    results.append(event)
                else:
                    yield event
        self.trainer.train_mode()
        self.seconds = sum(result.seconds for result in results)
        if len(results) == len(models):
            if why := why_invalid(results[-1], self.setup.val):
                text = f"{why.message}: this evaluation does not count"
                yield Notice(text=f"{text} ({why.hint})", is_warning=True)
            yield self._evaluated(results[-1], results[0].top1 if len(models) > 1 else None)
            yield from self._compare()

    def _compiled_batch(self) -> int:
        """Batch size for a compiled model; 0 if compiling takes longer than it saves.

        It depends on the whole run, so that a resumed run evaluates like one that was never interrupted.
        """
        assert self.setup.val is not None
        evaluations = self.recipe.train.epochs // self.recipe.train.eval_every_epochs
        if not self.trainer.is_compiled or evaluations * len(self.setup.val) < _COMPILE_FROM:
            return 0
        return eval_batch(self.setup.device)

    def _compare(self) -> Iterator[Event]:
        """Warn if the run is far below the published result of its recipe."""
        measured = [(e.epoch, e.top1) for e in self.state.history]
        curve = published_top1(self.recipe, len(self.setup.train.info.classes), self.timeline.images)
        published = falls_short(curve, self.recipe.train.epochs, measured)
        if published is not None and falls_short(curve, self.recipe.train.epochs, measured[:-1]) is None:
            best = max(top1 for _, top1 in measured)
            text = f"top-1 is {best:.1f} % so far; published for {self.recipe.name} at this epoch: {published:.1f} %"
            yield Notice(text=f"{text}. Check labels (resnetctl verify), learning rate and batch size", is_warning=True)

    def _evaluated(self, result: Result, raw_top1: float | None) -> Evaluated:
        """Record a result; `raw_top1`: of the weights themselves, if `result` is that of their average."""
        step, epoch = self.state.step, self.timeline.epoch(self.state.step)
        loss = result.loss if math.isfinite(result.loss) and result.is_valid else None
        measured = Evaluation(
            step=step,
            epoch=epoch,
            top1=result.top1,
            top5=result.top5,
            loss=loss,
            images=result.images,
            raw_top1=raw_top1,
        )
        self.state.history.append(measured)
        times = {"seconds": round(result.seconds, 3), "time": round(time.time(), 3)}
        self.setup.log({"kind": "eval", **vars(measured), **times})
        best = self.state.best
        return Evaluated(
            step=step,
            epoch=self.timeline.epochs_done(step),
            epochs=self.recipe.train.epochs,
            train_loss=self._train_loss(),
            is_best=best is measured,
            best_top1=best.top1 if best else None,
            best_epoch=self.timeline.epochs_done(best.step) if best else None,
            memory_bytes=peak_memory(self.setup.device),
            top1=result.top1,
            top5=result.top5,
            loss=loss,
            images=result.images,
            seconds=result.seconds,
            raw_top1=raw_top1,
        )

    def _train_loss(self) -> float | None:
        """The mean training loss of all ranks since the previous evaluation; None without a step since."""
        group, since = self.setup.group, self.state.step - self.state.last_read
        return self._losses.mean(float(group.all_sum(self.trainer.loss_sum)) / group.size, since)

    def seconds_left(self, images_per_second: float) -> float:
        """Time for the remaining evaluations: by the last one, or before that by the training rate."""
        if self.setup.val is None:
            return 0.0
        seconds = self.seconds or len(self.setup.val) / (EVAL_SPEEDUP * images_per_second)
        t = self.recipe.train
        left = (self.timeline.epoch(self.timeline.steps) - self.timeline.epoch(self.state.step)) / t.eval_every_epochs
        return (math.ceil(left) + self.is_due()) * seconds


@dataclass
class _Losses:
    """Sums of the training loss over the steps since the last evaluation."""

    sum: float = 0.0
    """Of readings since then."""
    steps: int = 0
    told_sum: float = 0.0
    """The part of the next reading that the last evaluation has already reported."""
    told_steps: int = 0

    def read(self, loss_sum: float, steps: int) -> None:
        self.sum += loss_sum
        self.steps += steps

    def mean(self, unread_sum: float, unread_steps: int) -> float | None:
        """The mean since the last call; `unread_…`: of the steps after the last reading."""
        steps = self.steps + unread_steps - self.told_steps
        mean = (self.sum + unread_sum - self.told_sum) / steps if steps else None
        self.sum, self.steps, self.told_sum, self.told_steps = 0.0, 0, unread_sum, unread_steps
        return mean
