"""A whole run: steps, evaluations and checkpoints in their order, told as events.

Where a run stands is its step. Everything else (epoch, learning rate, resolution, the next samples) follows from it,
so a resumed run goes on to the same bits as one that was never interrupted.
"""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from resnetctl.data.batches.eval import EvalBatches
from resnetctl.data.batches.loader import load
from resnetctl.data.batches.order import epoch_end, total_steps
from resnetctl.data.batches.train import TrainBatches
from resnetctl.data.images.decoders import decoder_notes
from resnetctl.data.index import Index
from resnetctl.distributed.group import ALONE, Group
from resnetctl.engine.device import PRECISION_NAMES, choose_precision, compile_or_why_not, out_of_memory
from resnetctl.engine.evaluator import Result, evaluate
from resnetctl.engine.events import Evaluated, Event, Finished, Notice, RunningLoss, Started, Stepped
from resnetctl.engine.meter import Meter, Timed
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
from resnetctl.runs.checkpoint import Checkpoint, checkpoint_name, commits
from resnetctl.runs.folder import Run
from resnetctl.runs.metadata import Evaluation, Metadata, best_of, read_metadata

_UNREADABLE_SHARE = 0.01  # of the data set: more is a broken data set, not a few broken files
_SHARE_FOR_THE_BEST = 0.01  # of a run's time may have gone into saving, for an evaluation's sake to save once more


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
        self.job, self.stop, self.recipe, self.run, self.group = job, stop, job.recipe, job.run, job.group
        t = self.recipe.train
        self.images = len(job.train)
        self.steps_planned = total_steps(t.epochs, self.images, t.global_batch)
        self.steps = min(self.steps_planned, t.max_steps or self.steps_planned)
        self.precision = choose_precision(t.precision, job.device)
        self.micro_batch = choose_micro_batch(self.recipe, job.device, self.group.size)
        self.view = train_view(self.recipe, job.train, self.micro_batch, self.group)
        self.batches = TrainBatches(self.view)
        self.step = self.last_read = 0
        self.history: list[Evaluation] = []
        self.unreadable: set[int] = set()
        self.unreadable_now: list[int] = []
        """Found on this rank in the last step."""
        self.stopping: int | None = None
        """The signal that ends the run, once all ranks have agreed on it."""
        self.meter = Meter()
        self.last_save = time.monotonic()
        self.saver = Saver(job.run, self.recipe.checkpoint.keep)
        self.resumed_from: int | None = None

    def go(self) -> Iterator[Event]:
        job, t = self.job, self.recipe.train
        for text in decoder_notes(self.recipe.data.decoder):
            yield Notice(text=text)
        classes = len(job.train.info.classes)
        self.trainer = Trainer(self.recipe, classes, job.device, self.precision, self.group)
        if job.start is None:
            model = self.recipe.model
            for text in load_weights(self.trainer.model, model.weights, model.arch, classes):
                yield Notice(text=text)
        else:
            yield from self._restore(job.start)
        why_not = compile_or_why_not(t.compile, job.device)
        try:
            self.trainer.spread(self.micro_batch, self.view.size_at(self.step, self.images))
            if why_not is None:
                self.trainer.compile()
            elif why_not:
                yield Notice(text=why_not)
            yield self._started(compiled=why_not is None)
            yield from self._loop()
        except (RuntimeError, MemoryError) as error:
            share = self.recipe.train.global_batch // self.group.size
            size = self.view.size_at(self.step, self.images)
            explained = out_of_memory(error, self.micro_batch, share, size)
            if explained is None:
                raise
            raise explained from error

    def _started(self, compiled: bool) -> Started:
        job, t = self.job, self.recipe.train
        return Started(
            run=self.run.folder,
            recipe=self.recipe.name,
            arch=self.recipe.model.arch,
            device=str(job.device) if self.group.size == 1 else job.device.type,
            precision=PRECISION_NAMES[self.precision],
            compiled=compiled,
            workers=job.workers,
            world_size=self.group.size,
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
        batches = load(
            self.batches,
            items,
            workers=self.job.workers,
            pin=self.job.device.type == "cuda",
            timeout=self.recipe.data.timeout_seconds,
        )
        try:
            while True:
                yield from self.saver.poll()
                if self._evaluation_due():
                    yield from self._evaluate()
                save = yield from self._agree()
                last = self.step == self.steps
                if last or save or self.stopping is not None:
                    yield from self._save()
                if last or self.stopping is not None:
                    break
                yield from self._train_step(batches)
            yield from self.saver.wait()
            self.group.all_max([0])  # until the first rank has saved, nobody leaves
        except KeyboardInterrupt:
            raise  # now, and not after the save that is under way
        except BaseException:
            if self.group.is_first:
                self.saver.wait()  # what is being saved was good
            raise
        yield self._finished()

    def _agree(self) -> Generator[Event, None, bool]:
        """Let all ranks know of one's signal, of images it could not read, and whether to save now."""
        signal, save, unreadable = self.group.all_max(
            [self.stop.signal or 0, self.group.is_first and self._save_due(), len(self.unreadable_now)]
        )
        self.stopping = signal or None
        if unreadable:
            found = [i for ranks in self.group.all_gather(self.unreadable_now) for i in ranks]
            self.unreadable_now = []
            yield from self._note_unreadable(found)
        return bool(save)

    def _train_step(self, batches: Iterator[Any]) -> Iterator[Event]:
        t = self.recipe.train
        lr = self._lr(self.step)
        timed = Timed(batches)
        self.unreadable_now = self.trainer.step(timed, self.view.micro_batches, lr)
        trace(self._samples)
        self.step += 1
        self.meter.steps += 1
        self.meter.waited += timed.seconds
        loss = None
        if self.step % t.loss_every == 0 or self.step == self.steps:
            loss = self._read_loss(lr)
        yield self._stepped(loss, lr)
        if t.running_loss_every:
            yield from self._running_loss()

    def _samples(self) -> str:
        """What this rank sees in this step, a line for each micro-batch."""
        lines = []
        for n in range(self.view.micro_batches):
            epoch, sample = self.batches.samples(self.step * self.view.micro_batches + n)
            where = f"step {self.step} rank {self.group.rank} part {n}"
            lines.append(f"{where} epochs {epoch.tolist()} samples {sample.tolist()}")
        return "\n".join(lines)

    def _read_loss(self, lr: float) -> float:
        loss = self.trainer.take_loss(self.step - self.last_read)
        self.last_read = self.step
        self._check_finite(loss)
        self.meter.close_window(self.recipe.train.global_batch)
        self._log(
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

    def _log(self, line: dict[str, Any]) -> None:
        if self.group.is_first:
            self.run.log(line)

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
        rate, waiting = self.meter.so_far(t.global_batch)
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
            waiting=waiting,
            eta_seconds=(self.steps - self.step) * t.global_batch / rate if rate else math.inf,
        )

    # --- evaluation ---------------------------------------------------------------------------------------------

    def _evaluation_due(self) -> bool:
        if self.job.val is None or not self.step or any(e.step == self.step for e in self.history):
            return False
        if self.step == self.steps:
            return True
        batch, every = self.recipe.train.global_batch, self.recipe.train.eval_every_epochs
        # one step can end several epochs of a small data set
        before, after = (self.step - 1) * batch // self.images, self.step * batch // self.images
        return after // every > before // every

    def _evaluate(self) -> Iterator[Event]:
        assert self.job.val is not None
        # new loader processes are forked: not while the saver's thread may hold a lock
        yield from self.saver.wait()
        self.trainer.share_buffers()
        events = evaluate(
            self.trainer.model,
            EvalBatches(eval_view(self.recipe, self.job.val, self.job.device, self.group)),
            self.trainer.normalise,
            device=self.job.device,
            precision=self.precision,
            flip_average=self.recipe.data.val_flip_average,
            workers=self.job.workers,
            stopped=lambda: self.stop.signal is not None,
            group=self.group,
            timeout=self.recipe.data.timeout_seconds,
        )
        for event in events:
            if not isinstance(event, Result):
                yield event
                continue
            measured = Evaluation(
                step=self.step,
                epoch=self._epoch(),
                top1=event.top1,
                top5=event.top5,
                loss=event.loss,
                images=event.images,
            )
            self.history.append(measured)
            times = {"seconds": round(event.seconds, 3), "time": round(time.time(), 3)}
            self._log({"kind": "eval", **vars(measured), **times})
            yield Evaluated(
                step=self.step,
                epoch=round(self._epoch()) if self.step < self.steps_planned else self.recipe.train.epochs,
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
        best = best_of(self.history)
        if due or best is None or best.step != self.step:
            return due
        # a short run has a new best again and again, and must not spend its time on saving
        seconds = self.saver.total_seconds + self.saver.seconds
        return seconds <= _SHARE_FOR_THE_BEST * (time.perf_counter() - self.meter.began)

    def _save(self) -> Iterator[Event]:
        """Begin to save: the run goes on while the checkpoint is written."""
        self.last_save = time.monotonic()
        if self.last_read != self.step and self.step:
            self._check_finite(float(self.group.all_sum(self.trainer.loss_sum)))
        tensors = self.trainer.tensors()
        if self.group.is_first:
            kept = {self.step, *(commit.step for commit in commits(self.run.checkpoints))}
            best = best_of([e for e in self.history if e.step in kept])
            spared = {step for step in (best.step if best else None, self.resumed_from) if step is not None}
            yield from self.saver.start(self.step, tensors, self._metadata().to_json(), spared)

    def _metadata(self) -> Metadata:
        info = self.job.train.info
        return Metadata(
            step=self.step,
            steps=self.steps_planned,
            epoch=self._epoch(),
            last_read=self.last_read,
            recipe=self.recipe,
            plain_torchvision_model=is_plain(self.recipe.model),
            classes=info.classes,
            class_names=info.class_names,
            train_fingerprint=info.fingerprint,
            val_fingerprint=None if self.job.val is None else self.job.val.info.fingerprint,
            train_images=self.images,
            history=tuple(self.history),
            unreadable=tuple(sorted(self.unreadable)),
            environment=environment(self.job.device, self.precision, self.micro_batch, self.group, self.view.decoder),
        )

    def _restore(self, checkpoint: Checkpoint) -> Iterator[Event]:
        """Take up a checkpoint, and warn where the bits of the result will depend on it."""
        m = read_metadata(checkpoint)
        self.trainer.restore(dict(checkpoint.tensors))
        self.step = self.resumed_from = m.step
        self.last_read = m.last_read
        self.history = list(m.history)
        self.unreadable = set(m.unreadable)
        self.meter.restart()
        if self.group.is_first:
            self.run.trim_metrics(self.step, evaluated=any(e.step == self.step for e in self.history))
        now = environment(self.job.device, self.precision, self.micro_batch, self.group, self.view.decoder)
        changed = [f"{k} ({was} → {v})" for k, v in now.items() if (was := m.environment.get(k)) not in (v, None)]
        if changed and self.group.is_first and self.step < self.steps:
            text = f"not bit-exact: the checkpoint was written with another {', '.join(changed)}"
            yield Notice(text=text, is_warning=True)

    def _finished(self) -> Finished:
        last, meter = self.history[-1] if self.history else None, self.meter
        path = self.saver.commit.path if self.saver.commit else self.run.checkpoints / checkpoint_name(self.step)
        return Finished(
            run=self.run.folder,
            first_step=self.resumed_from or 0,
            step=self.step,
            steps=self.steps,
            steps_planned=self.steps_planned,
            top1=last.top1 if last else None,
            top5=last.top5 if last else None,
            seconds=time.perf_counter() - meter.began,
            images_per_second=meter.total_steps * self.recipe.train.global_batch / max(meter.training_seconds, 1e-9),
            waiting=meter.total_waited / max(meter.training_seconds, 1e-9),
            checkpoint=path,
            unreadable=tuple(self.job.train.name(i) for i in sorted(self.unreadable)),
            stopped_by=self.stopping if self.step < self.steps else None,
        )
