"""The learning rate as a pure function of the step."""

from __future__ import annotations

import math

from resnetctl.recipe import ScheduleRecipe


def learning_rate(step: int, steps: int, steps_per_epoch: float, peak: float, schedule: ScheduleRecipe) -> float:
    """The rate of `step` (from 0) of a run of `steps`.

    A linear warm-up from warmup_start × peak to the peak, over warmup_epochs but at most half of the run; then
    `constant`, `linear` or `cosine` (half a period, Loshchilov & Hutter 2016, arXiv:1608.03983) to 0 at the end of the
    run, or `step`: × step_factor at every step_epochs.
    """
    warmup = min(schedule.warmup_epochs * steps_per_epoch, steps / 2)
    if step < warmup:
        return peak * (schedule.warmup_start + (1 - schedule.warmup_start) * step / warmup)
    done = (step - warmup) / max(steps - warmup, 1)
    match schedule.name:
        case "constant":
            return peak
        case "linear":
            return peak * (1 - done)
        case "cosine":
            return peak * (1 + math.cos(math.pi * done)) / 2
        case "step":
            return peak * schedule.step_factor ** math.floor(step / steps_per_epoch / schedule.step_epochs)
    raise AssertionError(schedule.name)
