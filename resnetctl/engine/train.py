"""A whole run: steps, evaluations and checkpoints in their order, told as events.

Where a run stands is its step. Everything else (epoch, learning rate, resolution, the next samples) follows from it,
so a resumed run goes on to the same bits as one that was never interrupted.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from resnetctl.checkpoint import Checkpoint, checkpoint_name, commits
from resnetctl.data.index import Index
from resnetctl.data.loader import EvalBatches, TrainBatches, load
from resnetctl.data.order import epoch_end, total_steps
from resnetctl.distributed import ALONE, Group
from resnetctl.engine.device import PRECISION_NAMES, choose_precision, compile_or_why_not
from resnetctl.engine.evaluator import Result, evaluate
from resnetctl.engine.events import Evaluated, Event, Finished, Notice, RunningLoss, Started, Stepped
from resnetctl.engine.metadata import Evaluation, Metadata, best_of, read_metadata
from resnetctl.engine.meter import Meter, Timed
from resnetctl.engine.run import Run
from resnetctl.engine.saver import Saver
from resnetctl.engine.schedule import learning_rate
from resnetctl.engine.signals import StopRequest
from resnetctl.engine.trainer import Trainer, choose_micro_batch
from resnetctl.engine.views import environment, eval_view, train_view
from resnetctl.errors import DataError, ResnetctlError, UsageError
from resnetctl.files import trace
from resnetctl.model.resnet import is_plain
from resnetctl.model.weights import load_weights
from resnetctl.recipe import Recipe, effective_lr

_UNREADABLE_SHARE = 0.01  # of the data set: more is a broken data set, not a few broken files


@dataclass(frozen=True, kw_only=True)
class Job:
    """What to train, on what, and from where."""

    run: Run
    recipe: Recipe
    train: Index
    val: Index | None
    device: torch.device
    workers: int
    start: Checkpoint | None = None
    """The checkpoint to go on from; None for a new run."""
    group: Group = ALONE
    """The ranks that train together; the first one alone writes into the run's folder."""


def check_job(recipe: Recipe, images: int, device: torch.device, ranks: int = 1) -> None:
    """Raises UsageError for what would fail later: before a run's folder is made."""
    t = recipe.train
    choose_precision(t.precision, device)
    choose_micro_batch(recipe, device, ranks)
    if t.sync_bn and ranks > 1 and device.type != "cuda":
        raise UsageError(
            f"train.sync_bn needs CUDA devices, and this run is on {device.type}", hint="--set train.sync_bn=false"
        )
    if not total_steps(t.epochs, images, t.global_batch):
        raise UsageError(
            f"{t.epochs} epochs of {images} images do not fill one batch of {t.global_batch}",
            hint=f"--batch-size {max(1, min(images, t.global_batch) // 2)}, or more --epochs",
        )


def train(job: Job, stop: StopRequest) -> Iterator[Event]:
    """Train to the end, or until `stop` asks; the last event is Finished. Renderers decide what is shown.

    Raises ResnetctlError where the loss is not finite, memory or disk run out, or the data are beyond use; the
    checkpoints committed before stay as they are.
    """
    return _Training(job, stop).go()


class _Training:
    def __init__(self, job: Job, stop: StopRequest) -> None:
        self.job, self.stop, self.recipe, self.run = job, stop, job.recipe, job.run
        t = self.recipe.train
        self.images = len(job.train)
        self.steps_planned = total_steps(t.epochs, self.images, t.global_batch)
        self.steps = min(self.steps_planned, t.max_steps or self.steps_planned)
        self.precision = choose_precision(t.precision, job.device)
        self.micro_batch = choose_micro_batch(self.recipe, job.device, 1)
        self.view = train_view(self.recipe, job.train, self.micro_batch)
        self.step = 0
        self.last_read = 0
        self.running_from = 0
        self.history: list[dict[str, Any]] = []
        self.unreadable: set[int] = set()
        self.meter = _Meter()
        self.last_save = time.monotonic()
        self.commit: Commit | None = None
        self.resumed_from: int | None = None

    def go(self) -> Iterator[Event]:
        job, t = self.job, self.recipe.train
        notices: list[str] = []
        self.trainer = Trainer(self.recipe, len(job.train.info.classes), job.device, self.precision)
        if job.start is None:
            load_weights(
                self.trainer.model,
                self.recipe.model.weights,
                self.recipe.model.arch,
                len(job.train.info.classes),
                notices.append,
            )
        else:
            notices += self._restore(job.start)
        why_not = compile_or_why_not(t.compile, job.device)
        if why_not is None:
            self.trainer.forward = torch.compile(self.trainer.model, dynamic=False)
        elif why_not:
            notices.append(why_not)
        yield from (Notice(text=text) for text in notices)
        yield self._started(compiled=why_not is None)
        try:
            yield from self._loop()
        except torch.OutOfMemoryError as error:
            half = max(1, self.micro_batch // 2)
            raise ResnetctlError(
                f"the device has too little memory for {self.micro_batch} images of {self.view.size} pixels at a time",
                hint=f"--set train.micro_batch={half} (the batch of each step stays the same), then train --resume",
            ) from error

    def _started(self, compiled: bool) -> Started:
        job, t = self.job, self.recipe.train
        return Started(
            run=self.run.folder,
            recipe=self.recipe.name,
            arch=self.recipe.model.arch,
            device=str(job.device),
            precision=PRECISION_NAMES[self.precision],
            compiled=compiled,
            workers=job.workers,
            world_size=1,
            global_batch=t.global_batch,
            micro_batch=self.micro_batch,
            train_images=self.images,
            val_images=0 if job.val is None else len(job.val),
            classes=len(job.train.info.classes),
            epochs=t.epochs,
            steps=self.steps,
            first_step=self.step,
        )

    # --- the loop -----------------------------------------------------------------------------------------------

    def _loop(self) -> Iterator[Event]:
        items = range(self.step * self.view.micro_batches, self.steps * self.view.micro_batches)
        pin = self.job.device.type == "cuda"
        batches = load(TrainBatches(self.view), items, workers=self.job.workers, pin=pin)
        while True:
            if self._evaluation_due():
                yield from self._evaluate()
            last = self.step == self.steps
            if last or self.stop.signal is not None or self._save_due():
                yield from self._save()
            if last or self.stop.signal is not None:
                break
            yield from self._train_step(batches)
        yield self._finished()

    def _train_step(self, batches: Iterator[Any]) -> Iterator[Event]:
        t = self.recipe.train
        lr = self._lr(self.step)
        timed = _Timed(batches)
        bad = self.trainer.step(timed, self.view.micro_batches, lr)
        self.step += 1
        self.meter.steps += 1
        self.meter.waited += timed.seconds
        if bad:
            yield from self._note_unreadable(bad)
        loss = None
        if self.step % t.loss_every == 0 or self.step == self.steps:
            loss = self._read_loss(lr)
        yield self._stepped(loss, lr)
        if t.running_loss_every:
            yield from self._running_loss()

    def _read_loss(self, lr: float) -> float:
        loss = self.trainer.take_loss(self.step - self.last_read)
        self.last_read = self.step
        self._check_finite(loss)
        self.meter.close_window(self.recipe.train.global_batch)
        self.run.log(
            {
                "kind": "train",
                "step": self.step,
                "epoch": self._epoch(),
                "loss": loss,
                "lr": lr,
                "images_per_second": round(self.meter.images_per_second, 1),
                "waiting": round(self.meter.waiting, 4),
                "time": round(time.time(), 3),
            }
        )
        return loss

    def _check_finite(self, loss: float) -> None:
        if not math.isfinite(loss):
            newest = commits(self.run.checkpoints)
            kept = f"the checkpoint of step {newest[0].step} is kept" if newest else "no checkpoint was written yet"
            raise ResnetctlError(
                f"the loss is {loss} at step {self.step}: the run has diverged ({kept})",
                hint="a smaller --lr or a longer warm-up (--set schedule.warmup_epochs=…) is the usual cure",
            )

    def _running_loss(self) -> Iterator[Event]:
        every = self.recipe.train.running_loss_every
        epoch, before = self._epoch_start()
        mini_batch = self.step - before
        if mini_batch % every == 0 and mini_batch:
            yield RunningLoss(epoch=epoch + 1, mini_batch=mini_batch, loss=self.trainer.take_running_loss(every))
        elif self.step == epoch_end(epoch, self.images, self.recipe.train.global_batch):
            self.trainer.take_running_loss(1)  # each epoch begins a new sum

    def _note_unreadable(self, bad: list[int]) -> Iterator[Event]:
        for i in bad:
            if i not in self.unreadable:
                self.unreadable.add(i)
                if len(self.unreadable) <= 5:
                    yield Notice(text=f"cannot read {self.job.train.name(i)}: another image took its place")
        if len(self.unreadable) > max(16, _UNREADABLE_SHARE * self.images):
            raise DataError(
                f"{len(self.unreadable)} of {self.images} images cannot be read",
                hint="resnetctl verify lists them",
            )

    # --- where we are -------------------------------------------------------------------------------------------

    def _lr(self, step: int) -> float:
        per_epoch = self.images / self.recipe.train.global_batch
        return learning_rate(step, self.steps_planned, per_epoch, effective_lr(self.recipe), self.recipe.schedule)

    def _epoch(self) -> float:
        return self.step * self.recipe.train.global_batch / self.images

    def _epoch_start(self) -> tuple[int, int]:
        """The epoch (from 0) that the last step belongs to, and the step after which it began."""
        batch = self.recipe.train.global_batch
        epoch = max(0, (self.step - 1) * batch // self.images)
        return epoch, epoch_end(epoch - 1, self.images, batch) if epoch else 0

    def _stepped(self, loss: float | None, lr: float) -> Stepped:
        t = self.recipe.train
        epoch, before = self._epoch_start()
        rate = self.meter.images_per_second
        return Stepped(
            step=self.step,
            steps=self.steps,
            epoch=self._epoch(),
            epochs=t.epochs,
            epoch_step=self.step - before,
            epoch_steps=min(epoch_end(epoch, self.images, t.global_batch), self.steps) - before,
            loss=loss,
            lr=lr,
            size=self.view.size_at(self.step - 1, self.images),
            images_per_second=rate,
            waiting=self.meter.waiting,
            eta_seconds=(self.steps - self.step) * t.global_batch / rate if rate else math.inf,
        )

    # --- evaluation ---------------------------------------------------------------------------------------------

    def _evaluation_due(self) -> bool:
        if self.job.val is None or not self.step or any(h["step"] == self.step for h in self.history):
            return False
        if self.step == self.steps:
            return True
        epoch, _ = self._epoch_start()
        ended = self.step == epoch_end(epoch, self.images, self.recipe.train.global_batch)
        return ended and (epoch + 1) % self.recipe.train.eval_every_epochs == 0

    def _evaluate(self) -> Iterator[Event]:
        assert self.job.val is not None
        events = evaluate(
            self.trainer.model,
            EvalBatches(eval_view(self.recipe, self.job.val, self.job.device)),
            self.trainer.normalise,
            device=self.job.device,
            precision=self.precision,
            flip_average=self.recipe.data.val_flip_average,
            workers=self.job.workers,
            stopped=lambda: self.stop.signal is not None,
        )
        for event in events:
            if not isinstance(event, Result):
                yield event
                continue
            entry = {
                "step": self.step,
                "epoch": self._epoch(),
                "top1": event.top1,
                "top5": event.top5,
                "loss": event.loss,
                "images": event.images,
            }
            self.history.append(entry)
            self.run.log({"kind": "eval", **entry, "seconds": round(event.seconds, 3), "time": round(time.time(), 3)})
            epochs_done = round(self._epoch()) if self.step < self.steps_planned else self.recipe.train.epochs
            yield Evaluated(
                step=self.step,
                epoch=epochs_done,
                top1=event.top1,
                top5=event.top5,
                loss=event.loss,
                images=event.images,
                seconds=event.seconds,
            )
        self.meter.restart()

    # --- checkpoints --------------------------------------------------------------------------------------------

    def _save_due(self) -> bool:
        c = self.recipe.checkpoint
        if not self.step or self.step == self.resumed_from:
            return False
        if c.every_steps:
            due = self.step % c.every_steps == 0
        else:
            due = time.monotonic() - self.last_save >= 60 * c.every_minutes
        return due or self._best_now()

    def _best_now(self) -> bool:
        """Whether the evaluation of just now is the best so far."""
        best = self._best_step()
        return best is not None and best == self.step

    def _best_step(self) -> int | None:
        return max(self.history, key=lambda h: (h["top1"], h["step"]))["step"] if self.history else None

    def _save(self) -> Iterator[Event]:
        folder = self.run.checkpoints
        existing = next((c for c in commits(folder) if c.step == self.step), None)
        self.last_save = time.monotonic()
        if existing is not None:  # the same step has the same tensors, and a finished file is never replaced
            self.commit = existing
            return
        began = time.perf_counter()
        if self.last_read != self.step and self.step:
            self._check_finite(float(self.trainer.loss_sum))
        self.run.sync_metrics()
        checkpoint = Checkpoint(self.trainer.tensors(), self._metadata())
        self.commit = save_checkpoint(folder, self.step, checkpoint)
        self._prune()
        seconds = time.perf_counter() - began
        yield Saved(step=self.step, path=self.commit.path, bytes=self.commit.size, seconds=seconds)

    def _prune(self) -> None:
        kept = {self._best_step(), self.resumed_from}
        for commit in commits(self.run.checkpoints)[self.recipe.checkpoint.keep :]:
            if commit.step not in kept:
                remove(commit)

    def _metadata(self) -> dict[str, Any]:
        info = self.job.train.info
        return {
            "step": self.step,
            "steps": self.steps_planned,
            "epoch": self._epoch(),
            "last_read": self.last_read,
            "recipe": recipe_to_dict(self.recipe),
            "plain_torchvision_model": is_plain(self.recipe.model),
            "classes": list(info.classes),
            "class_names": list(info.class_names),
            "index": {
                "train": info.fingerprint,
                "val": None if self.job.val is None else self.job.val.info.fingerprint,
                "images": self.images,
            },
            "history": self.history,
            "unreadable": sorted(self.unreadable),
            "environment": environment(self.job.device, self.precision, self.micro_batch),
        }

    def _restore(self, checkpoint: Checkpoint) -> list[str]:
        """Take up a checkpoint; returns what to tell the user."""
        m = checkpoint.metadata
        self.trainer.restore(dict(checkpoint.tensors))
        self.step = self.resumed_from = int(m["step"])
        self.last_read = int(m["last_read"])
        self.history = list(m["history"])
        self.unreadable = set(m["unreadable"])
        self.meter.restart()
        evaluated = any(h["step"] == self.step for h in self.history)
        self.run.trim_metrics(self.step, evaluated=evaluated)
        now = environment(self.job.device, self.precision, self.micro_batch)
        changed = [f"{k} {m['environment'].get(k)} → {v}" for k, v in now.items() if m["environment"].get(k) != v]
        if changed:
            return [f"not bit-exact: the checkpoint was written with another {', '.join(changed)}"]
        return []

    def _finished(self) -> Finished:
        assert self.commit is not None
        last = self.history[-1] if self.history else None
        meter = self.meter
        return Finished(
            run=self.run.folder,
            step=self.step,
            steps=self.steps,
            top1=last["top1"] if last else None,
            top5=last["top5"] if last else None,
            seconds=time.perf_counter() - meter.began,
            images_per_second=meter.total_steps * self.recipe.train.global_batch / max(meter.training_seconds, 1e-9),
            waiting=meter.total_waited / max(meter.training_seconds, 1e-9),
            checkpoint=self.commit.path,
            unreadable=tuple(self.job.train.name(i) for i in sorted(self.unreadable)),
            stopped_by=self.stop.signal if self.step < self.steps else None,
        )
