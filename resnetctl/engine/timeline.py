"""Everything that follows from a step's number alone: epoch, learning rate, resolution."""

from __future__ import annotations

import math
from dataclasses import dataclass

from resnetctl.data.batches.order import epoch_end, total_steps
from resnetctl.data.batches.resolution import size_at, train_size
from resnetctl.engine.schedule import learning_rate
from resnetctl.model.ema import decay_of
from resnetctl.recipe import Recipe, effective_lr


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """A run of `recipe` on `images` train images. Steps and epochs count from 0."""

    recipe: Recipe
    images: int

    @property
    def steps_planned(self) -> int:
        """Steps of the whole run, which the schedule spans."""
        t = self.recipe.train
        return total_steps(t.epochs, self.images, t.global_batch)

    @property
    def steps(self) -> int:
        """As `steps_planned`, or fewer if train.max_steps ends the run early."""
        return min(self.steps_planned, self.recipe.train.max_steps or self.steps_planned)

    def epoch(self, step: int) -> float:
        """Epochs done before `step`."""
        return step * self.recipe.train.global_batch / self.images

    def epochs_done(self, step: int) -> float:
        """As `epoch`, but a whole number if the step before ended one: its batch may reach into the next."""
        epoch = self.epoch(step)
        whole = self.recipe.train.epochs if step == self.steps_planned else math.floor(epoch)
        return whole if whole > math.floor(self.epoch(step - 1)) else epoch

    def epoch_of(self, step: int) -> tuple[int, int, int]:
        """The epoch of the step before `step`, and the steps at which that epoch begins and ends."""
        batch = self.recipe.train.global_batch
        epoch = max(0, (step - 1) * batch // self.images)
        begin = epoch_end(epoch - 1, self.images, batch) if epoch else 0
        return epoch, begin, epoch_end(epoch, self.images, batch)

    def lr(self, step: int) -> float:
        """The learning rate of `step`."""
        per_epoch = self.images / self.recipe.train.global_batch
        return learning_rate(step, self.steps_planned, per_epoch, effective_lr(self.recipe), self.recipe.schedule)

    def ema_decay(self, step: int) -> float | None:
        """The share that the moving average retains in the update after `step`; None without an update."""
        ema, schedule = self.recipe.ema, self.recipe.schedule
        if not ema.every_steps:
            return None
        since = step - self.epoch_of(step + 1)[1] if ema.count == "epoch" else step + 1
        if since % ema.every_steps:
            return None
        in_warmup = self.epoch_of(step + 1)[0] < schedule.warmup_epochs
        return 0.0 if ema.in_warmup == "copy" and in_warmup else decay_of(ema, self.recipe.train)

    def is_frozen(self, step: int) -> bool:
        """Whether only the last layer is trained in `step`."""
        t = self.recipe.train
        return t.freeze == "backbone" and (not t.freeze_epochs or self.epoch(step) < t.freeze_epochs)

    def size(self, step: int) -> int:
        """The resolution of `step` in pixels."""
        return size_at(step, self.images, self.recipe.data, self.recipe.train)

    def largest_size(self, step: int) -> int:
        """The largest resolution from `step` to the end of the run."""
        d, t = self.recipe.data, self.recipe.train
        begin = step * t.global_batch // self.images
        return max(train_size(epoch, d, t) for epoch in range(begin, max(begin + 1, t.epochs)))

    def evaluates_after(self, steps: int) -> bool:
        """Whether the run is evaluated after `steps` steps."""
        if steps in (0, self.steps):
            return steps > 0
        batch, every = self.recipe.train.global_batch, self.recipe.train.eval_every_epochs
        # one step can end several epochs of a small data set
        before, after = (steps - 1) * batch // self.images, steps * batch // self.images
        return after // every > before // every
