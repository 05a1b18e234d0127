"""The learning rate as a pure function of the step."""

from __future__ import annotations

import math

from resnetctl.recipe import ScheduleRecipe


def learning_rate(step: int, steps: int, steps_per_epoch: float, peak: float, schedule: ScheduleRecipe) -> float:
    """The rate of `step` (from 0) of a run of `steps`.

    A linear warm-up from warmup_start × peak to the peak, over warmup_epochs but at most half of the run. Then
    `constant`; `linear` or `cosine` (half a period, Loshchilov & Hutter 2016, arXiv:1608.03983) to final × peak at the
    end of the run; or `step`: × step_factor every step_epochs, or at each of step_milestones. `one-cycle` (Smith &
    Topin 2017, arXiv:1708.07120) rises and falls as torch.optim.lr_scheduler.OneCycleLR does.

    With `per = "epoch"` everything is counted in whole epochs, and the rate is constant within each.
    """
    now, end, warmup = float(step), float(steps), schedule.warmup_epochs * steps_per_epoch
    if schedule.per == "epoch":
        # a quotient that should be whole may be slightly off, and a run often lacks its last, incomplete step
        now, end = math.floor(step / steps_per_epoch + 1e-9), math.ceil(steps / steps_per_epoch - 1e-9)
        warmup = schedule.warmup_epochs
    warmup = min(warmup, end / 2)
    if schedule.name == "one-cycle":
        return peak * _one_cycle(now, end, warmup, schedule)
    if now < warmup:
        risen = min(1.0, (now + schedule.peak_in_warmup) / warmup)
        return peak * (schedule.warmup_start + (1 - schedule.warmup_start) * risen)
    begin = warmup if schedule.decay_from == "warmup" else 0.0
    done = min(1.0, (now - begin) / max(end - begin, 1))
    match schedule.name:
        case "constant":
            return peak
        case "linear":
            return peak * _between(1 - done, schedule.final)
        case "cosine":
            return peak * _between(_half_cosine(done), schedule.final)
        case "step":
            return peak * schedule.step_factor ** _drops(step / steps_per_epoch + 1e-9, schedule)
    raise AssertionError(schedule.name)


def _between(part: float, final: float) -> float:
    """From `final` at 0 to 1 at 1."""
    return final + (1 - final) * part


def _half_cosine(done: float) -> float:
    """From 1 at 0 to 0 at 1."""
    return (1 + math.cos(math.pi * done)) / 2


def _drops(epoch: float, schedule: ScheduleRecipe) -> int:
    if schedule.step_milestones:
        return sum(epoch >= milestone for milestone in schedule.step_milestones)
    return math.floor(epoch / schedule.step_epochs)


def _one_cycle(now: float, end: float, warmup: float, schedule: ScheduleRecipe) -> float:
    """The warm-up's last step is at the peak, and the run's last step at the final rate, as in torch."""
    top, last = max(warmup - 1, 0.0), end - 1
    if now < top:
        return _between(1 - _half_cosine(now / top), schedule.warmup_start)
    return _between(_half_cosine(min(1.0, (now - top) / max(last - top, 1))), schedule.final)
