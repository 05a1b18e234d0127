"""Events of a run. The engine yields them and prints nothing; renderers show them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Preparing:
    """Work before the first step."""

    what: str
    """Such as "importing torch"."""


@dataclass(frozen=True, kw_only=True)
class Started:
    """Everything is built; the first step comes next."""

    run: Path
    recipe: str
    arch: str
    device: str
    precision: str
    compiled: bool
    workers: int
    world_size: int
    global_batch: int
    micro_batch: int
    train_images: int
    val_images: int
    classes: int
    epochs: int
    steps: int
    first_step: int
    """0, or the step from which the run is resumed."""


@dataclass(frozen=True, kw_only=True)
class Stepped:
    """Progress, at most a few times per second, and whenever the loss was read."""

    step: int
    steps: int
    epoch: float
    epochs: int
    epoch_number: int
    """From 1: the epoch in which this step began."""
    loss: float | None
    """Mean training loss since the last reading; None if not read."""
    lr: float
    size: int
    """Resolution in pixels."""
    images_per_second: float
    """Over all ranks, since the last reading."""
    waiting: float
    """Share of the time spent waiting for data, 0 to 1."""
    eta_seconds: float


@dataclass(frozen=True, kw_only=True)
class RunningLoss:
    """Mean loss of the last mini-batches of an epoch, if the recipe enables it."""

    epoch: int
    """From 1."""
    mini_batch: int
    """In this epoch, from 1."""
    loss: float


@dataclass(frozen=True, kw_only=True)
class Evaluating:
    """Progress of an evaluation."""

    images: int
    total: int


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """The validation split was measured after `step` steps."""

    step: int
    epoch: float
    """Epochs done; a whole number if the last step ended one."""
    epochs: int
    train_loss: float | None
    """Mean since the previous evaluation; None without a step since."""
    is_best: bool
    """Whether it is the best so far."""
    best_top1: float | None
    """Percent, the best evaluation so far that counts; None without one."""
    best_epoch: float | None
    memory_bytes: int | None
    """Peak use of this rank's GPU so far; None elsewhere."""
    top1: float
    """Percent."""
    top5: float
    loss: float | None
    """None if not finite, or if too few images could be read; such an evaluation does not count."""
    images: int
    seconds: float
    raw_top1: float | None = None
    """Percent, of the weights themselves, if the figures above are those of their moving average."""


@dataclass(frozen=True, kw_only=True)
class Saving:
    """The run waits for the checkpoint of `step` to be written."""

    step: int


@dataclass(frozen=True, kw_only=True)
class Saved:
    """A checkpoint was committed."""

    step: int
    path: Path
    bytes: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Notice:
    """A remark for the user; the run continues."""

    text: str
    is_warning: bool = False


@dataclass(frozen=True, kw_only=True)
class Finished:
    """The run ended: all steps done, or stopped by a signal after a save."""

    run: Path
    first_step: int
    """0, or the step from which the run was resumed; all of `steps` if nothing was left to do."""
    step: int
    steps: int
    steps_planned: int
    """`steps`, or more if train.max_steps ends the run early."""
    top1: float | None
    """Percent, of the last evaluation."""
    top5: float | None
    best_top1: float | None
    """Percent, of all evaluations."""
    best_epoch: float | None
    val_images: int
    """0 without a val split."""
    seconds: float
    images_per_second: float
    waiting: float
    checkpoint: Path
    unreadable: tuple[str, ...]
    """Names of unreadable images that were replaced."""
    stopped_by: int | None = None
    """The signal's number; None if the run is complete."""


Event = Preparing | Started | Stepped | RunningLoss | Evaluating | Evaluated | Saving | Saved | Notice | Finished
