"""A whole run: steps, evaluations and checkpoints in order, reported as events.

A run's position is its step. Everything else (epoch, learning rate, resolution, the next samples) follows from it, so a
resumed run ends with the same bits as one that was never interrupted.
"""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Iterator

from resnetctl.data.batches.encoded import load_train
from resnetctl.data.batches.train import TrainBatches, train_view
from resnetctl.data.images.decoders import decoder_notes
from resnetctl.distributed.agreement import Agreement
from resnetctl.engine.checkpoints import RunCheckpoints
from resnetctl.engine.device import PRECISION_NAMES, choose_precision, compile_or_why_not, out_of_memory
from resnetctl.engine.environment import changes, environment
from resnetctl.engine.events import Event, Finished, Notice, Preparing, RunningLoss, Saving, Started, Stepped
from resnetctl.engine.meter import Meter, timed
from resnetctl.engine.micro_batch import choose_micro_batch
from resnetctl.engine.run_state import RunState
from resnetctl.engine.setup import RunSetup
from resnetctl.engine.signals import StopRequest
from resnetctl.engine.timeline import Timeline
from resnetctl.engine.trainer import Trainer
from resnetctl.engine.validation import Validation
from resnetctl.errors import DataError, ResnetctlError
from resnetctl.files import trace
from resnetctl.model.weights import load_weights
from resnetctl.runs.commits import commits
from resnetctl.runs.tensorboard import EventFile, check_tensorboard

_UNREADABLE_SHARE = 0.01  # of the data set: more is a broken data set, not a few broken files
_FEW_UNREADABLE = 16
_NAMED = 5  # unreadable images reported individually


def train(setup: RunSetup, stop: StopRequest) -> Iterator[Event]:
    """Train to the end, or until `stop`; the last event is Finished. Renderers decide what is shown.

    Raises ResnetctlError if the loss is not finite, memory or disk run out, or the data are unusable; earlier
    checkpoints are unaffected.
    """
    return _TrainLoop(setup, stop).run()


class _TrainLoop:
    """One rank's part of a run."""

    def __init__(self, setup: RunSetup, stop: StopRequest) -> None:
        self.setup, self.stop, self.recipe, self.group = setup, stop, setup.recipe, setup.group
        if self.recipe.train.tensorboard:
            check_tensorboard()
        self.timeline = Timeline(recipe=setup.recipe, images=len(setup.train))
        self.precision = choose_precision(self.recipe.train.precision, setup.device)
        self.micro_batch = choose_micro_batch(self.recipe, setup.device, self.group.size)
        self.view = train_view(self.recipe, setup.train, self.micro_batch, self.group.rank, self.group.size)
        self.batches = TrainBatches(self.view)
        self.trainer = Trainer(self.recipe, len(setup.train.info.classes), setup.device, self.precision, self.group)
        self.state = RunState()
        self.meter = Meter()
        self.agreement = Agreement(self.group)
        self.stopping: int | None = None
        """The signal that ends the run, once all ranks agree on it."""
        self.unreadable_now: list[int] = []
        """Found on this rank since the ranks last exchanged such findings."""

    def run(self) -> Iterator[Event]:
        try:
            yield from self._begin()
            yield from self._loop()
        except (RuntimeError, MemoryError) as error:
            share = self.recipe.train.global_batch // self.group.size
            begun = self.stop.begun
            size = self.timeline.size(self.state.step) if begun else self.timeline.largest_size(self.state.step)
            explained = out_of_memory(error, self.micro_batch, share, size, begun=begun or self.setup.start is not None)
            if explained is None:
                raise
            raise explained from error
        yield self._finished()

    # --- the beginning ------------------------------------------------------------------------------------------

    def _begin(self) -> Iterator[Event]:
        """Load a checkpoint or starting weights, join the ranks, compile."""
        t = self.recipe.train
        why_not = compile_or_why_not(t.compile, self.setup.device, sync_bn=t.sync_bn and self.group.size > 1)
        self.compiled = why_not is None
        here = environment(
            self.setup.device, self.precision, self.compiled, self.micro_batch, self.group, self.view.decoder
        )
        for text in decoder_notes(self.recipe.data.decoder):
            yield Notice(text=text)
        if self.setup.start is None:
            model = self.recipe.model
            classes = self.setup.train.info.classes
            for text in load_weights(self.trainer.model, model.weights, model.arch, len(classes), classes):
                yield Notice(text=text)
            self.trainer.update_average(0.0)
        else:
            yield from self._resume(here)
        if why_not:
            yield Notice(text=why_not)
        if self.state.step < self.timeline.steps:
            yield from self._rehearse()
        self.checkpoints = RunCheckpoints(self.setup, self.timeline, self.state, self.trainer, self.meter, here)
        self.validation = Validation(self.setup, self.timeline, self.state, self.trainer, self.stop)
        self.stop.begun = True
        self.setup.begun()
        if self.recipe.train.tensorboard and self.group.is_first:
            self.setup.listeners.append(EventFile(self.setup.run).log)
        yield self._started()

    def _rehearse(self) -> Iterator[Event]:
        """Build what a step needs, and try the largest step to come if it is not the first one.

        So insufficient memory or a failing compiler shows now and not hours later.
        """
        step = self.state.step
        first, largest = self.timeline.size(step), self.timeline.largest_size(step)
        frozen = self.timeline.is_frozen(step)
        thaws = frozen and not self.timeline.is_frozen(self.timeline.steps - 1)
        if largest > first or thaws:
            yield Preparing(what=f"trying a step of {largest} px")
        if thaws:  # training everything takes more memory
            self._build(largest)
        self.trainer.freeze(frozen)
        self._build(largest if largest > first or self.group.size > 1 else None)

    def _build(self, size: int | None) -> None:
        """Join the ranks' gradients and compile, for the parameters trained now; and try a step of `size` pixels."""
        self.trainer.train_mode()
        self.trainer.spread()
        if self.compiled:
            self.trainer.compile()
        if size is not None:
            self.trainer.rehearse(self.micro_batch, size, self.view.micro_batches)

    def _resume(self, here: dict[str, str | int]) -> Iterator[Event]:
        """Restore the checkpoint, and warn if the environment may change the bits of the result."""
        start, run = self.setup.start, self.setup.run
        assert start is not None
        self.trainer.restore(start.tensors)
        self.state = RunState.of(start.metadata)
        if not self.group.is_first:
            return
        run.trim_metrics(self.state.step, evaluated=self.state.is_evaluated)
        changed = changes(start.metadata.environment, here)
        if changed and self.state.step < self.timeline.steps:
            text = f"not bit-exact: the checkpoint was written with another {', '.join(changed)}"
            yield Notice(text=text, is_warning=True)

    # --- the loop -----------------------------------------------------------------------------------------------

    def _loop(self) -> Iterator[Event]:
        parts = self.view.micro_batches
        batches = load_train(
            self.batches,
            range(self.state.step * parts, self.timeline.steps * parts),
            device=self.setup.device,
            workers=self.setup.workers,
            timeout=self.recipe.data.timeout_seconds,
        )
        self.timed = timed(batches, self.setup.device)
        self.meter.go_on()
        try:
            while True:
                yield from self.checkpoints.saver.poll()
                evaluates = self.validation.is_due()
                if evaluates:
                    # do not fork new loader processes while the saver's thread may hold a lock
                    yield from self._wait_for_save()
                    self.meter.pause()
                    yield from self.validation.measure()
                    self.meter.go_on()
                save = yield from self._agree(evaluates)
                ends = self.state.step == self.timeline.steps or self.stopping is not None
                if ends or save:
                    yield from self._save()
                if ends:
                    break
                yield from self._step()
            yield from self._wait_for_save()
            self.group.all_max([0])  # until the first rank has saved, nobody leaves
        except KeyboardInterrupt:
            raise  # now, without waiting for the pending save
        except BaseException:
            self.group.leaving.set()
            if self.group.is_first:
                self.checkpoints.saver.wait()  # what is being saved was good
            raise

    def _agree(self, evaluated: bool) -> Generator[Event, None, bool]:
        """Share signals, unreadable images and the decision to save among the ranks.

        Findings of a single rank arrive one step later, so that no step waits for the slowest rank; but immediately if
        all ranks know that a save is due, since it must contain everything found before.
        """
        mine = [self.stop.signal or 0, self.group.is_first and self.checkpoints.are_due(), len(self.unreadable_now)]
        now = evaluated or self.state.step == self.timeline.steps or self.checkpoints.are_due_by_steps()
        agreed = self.agreement.now(mine) if now else self.agreement.later(mine)
        if not now and (agreed[0] or agreed[1]):
            agreed = self.agreement.now(agreed)
        signal, save, unreadable = agreed
        self.stopping = signal or None
        if unreadable:
            found = [i for ranks in self.group.all_gather(self.unreadable_now) for i in ranks]
            self.unreadable_now = []
            yield from self._note_unreadable(found)
        return bool(save)

    def _step(self) -> Iterator[Event]:
        t, step = self.recipe.train, self.state.step
        lr = self.timeline.lr(step)
        self._freeze(step)
        self.unreadable_now += self.trainer.step(step, self.timed, self.view.micro_batches, lr)
        decay = self.timeline.ema_decay(step)
        if decay is not None:
            self.trainer.update_average(decay)
        trace(self._samples)
        self.state.step = step = step + 1
        self.meter.steps += 1
        self.meter.waited += self.timed.take()
        reads = step % t.loss_every == 0 or step == self.timeline.steps
        loss = self._read_loss(lr) if reads else self._loss_so_far()
        yield self._stepped(loss, lr)
        if t.running_loss_every:
            yield from self._running_loss()

    def _freeze(self, step: int) -> None:
        """Freeze or unfreeze parameters as due in `step`, rebuilding the ranks' gradient buckets on a change."""
        if self.trainer.freeze(self.timeline.is_frozen(step)):
            self._build(self.timeline.largest_size(step) if self.group.size > 1 else None)

    def _samples(self) -> str:
        """This rank's samples in this step, one line per micro-batch."""
        lines = []
        for n in range(self.view.micro_batches):
            seen = self.batches.samples(self.state.step * self.view.micro_batches + n)
            where = f"step {self.state.step} rank {self.group.rank} part {n}"
            lines.append(f"{where} epochs {seen.epoch.tolist()} samples {seen.sample.tolist()}")
        return "\n".join(lines)

    def _save(self) -> Iterator[Event]:
        if self.state.last_read != self.state.step and self.state.step:
            self._check_finite(float(self.group.all_sum(self.trainer.loss_sum)))
        yield from self.checkpoints.save()

    def _wait_for_save(self) -> Iterator[Event]:
        if self.checkpoints.saver.is_busy:
            yield Saving(step=self.state.step)
        yield from self.checkpoints.saver.wait()

    # --- the loss -----------------------------------------------------------------------------------------------

    def _read_loss(self, lr: float) -> float:
        step = self.state.step
        loss = self.trainer.take(self.trainer.loss_sum, step - self.state.last_read)
        self.validation.note_loss(loss, step - self.state.last_read)
        self.state.last_read = step
        self._check_finite(loss)
        self.meter.waited += self.timed.take()  # a GPU has come to the end of all steps now
        self.meter.close_window(self.recipe.train.global_batch)
        self.setup.log(
            {
                "kind": "train",
                "step": step,
                "epoch": self.timeline.epoch(step),
                "loss": loss,
                "lr": lr,
                **({} if self.trainer.grad_norm is None else {"grad_norm": float(self.trainer.grad_norm)}),
                "images_per_second": round(self.meter.images_per_second, 1),
                "waiting": round(self.meter.waiting, 4),
                "time": round(time.time(), 3),
            }
        )
        return loss

    def _loss_so_far(self) -> float | None:
        """This rank's mean loss since the last reading, if free: on a CPU, and in the first step."""
        since = self.state.step - self.state.last_read
        is_free = self.setup.device.type == "cpu" or self.meter.total_steps + self.meter.steps == 1
        return float(self.trainer.loss_sum) / since if is_free else None

    def _check_finite(self, loss: float) -> None:
        if not math.isfinite(loss):
            newest = commits(self.setup.run.checkpoints)
            kept = f"the checkpoint of step {newest[0].step} is kept" if newest else "no checkpoint was written yet"
            raise ResnetctlError(
                f"the loss is {loss} at step {self.state.step}: the run has diverged ({kept})",
                hint="usual remedies: a smaller --lr or a longer warm-up (--set schedule.warmup_epochs=…)",
            )

    def _running_loss(self) -> Iterator[Event]:
        every, step = self.recipe.train.running_loss_every, self.state.step
        epoch, begin, end = self.timeline.epoch_of(step)
        mini_batch = step - begin
        if mini_batch % every == 0 and mini_batch:
            loss = self.trainer.take(self.trainer.running_loss, every)
            yield RunningLoss(epoch=epoch + 1, mini_batch=mini_batch, loss=loss)
        elif step == end:
            self.trainer.running_loss.zero_()  # each epoch begins a new sum

    def _note_unreadable(self, bad: list[int]) -> Iterator[Event]:
        unreadable, images = self.state.unreadable, self.timeline.images
        for i in bad:
            if i not in unreadable:
                unreadable.add(i)
                if len(unreadable) <= _NAMED:
                    yield Notice(text=f"cannot read {self.setup.train.name(i)}: another image took its place")
        if len(unreadable) > max(_FEW_UNREADABLE, _UNREADABLE_SHARE * images):
            raise DataError(
                f"{len(unreadable)} of {images} images cannot be read",
                hint="resnetctl verify lists them",
            )

    # --- events -------------------------------------------------------------------------------------------------

    def _started(self) -> Started:
        setup, t = self.setup, self.recipe.train
        return Started(
            run=setup.run.folder,
            recipe=self.recipe.name,
            arch=self.recipe.model.arch,
            device=str(setup.device) if self.group.size == 1 else setup.device.type,
            precision=PRECISION_NAMES[self.precision],
            compiled=self.compiled,
            workers=setup.workers,
            world_size=self.group.size,
            global_batch=t.global_batch,
            micro_batch=self.micro_batch,
            train_images=self.timeline.images,
            val_images=0 if setup.val is None else len(setup.val),
            classes=len(setup.train.info.classes),
            epochs=t.epochs,
            steps=self.timeline.steps,
            first_step=self.state.step,
        )

    def _stepped(self, loss: float | None, lr: float) -> Stepped:
        t, step, steps = self.recipe.train, self.state.step, self.timeline.steps
        rate, waiting = self.meter.so_far(t.global_batch)
        left = (steps - step) * t.global_batch / rate + self.validation.seconds_left(rate) if rate else math.inf
        return Stepped(
            step=step,
            steps=steps,
            epoch=self.timeline.epoch(step),
            epochs=t.epochs,
            epoch_number=self.timeline.epoch_of(step)[0] + 1,
            loss=loss,
            lr=lr,
            size=self.timeline.size(step - 1),
            images_per_second=rate,
            waiting=waiting,
            eta_seconds=left,
        )

    def _finished(self) -> Finished:
        state, meter = self.state, self.meter
        last, best = state.history[-1] if state.history else None, state.best
        return Finished(
            run=self.setup.run.folder,
            first_step=state.resumed_from or 0,
            step=state.step,
            steps=self.timeline.steps,
            steps_planned=self.timeline.steps_planned,
            top1=last.top1 if last else None,
            top5=last.top5 if last else None,
            best_top1=best.top1 if best else None,
            best_epoch=self.timeline.epochs_done(best.step) if best else None,
            val_images=0 if self.setup.val is None else len(self.setup.val),
            seconds=time.perf_counter() - meter.began,
            images_per_second=meter.total_steps * self.recipe.train.global_batch / max(meter.training_seconds, 1e-9),
            waiting=meter.total_waited / max(meter.training_seconds, 1e-9),
            checkpoint=self.checkpoints.newest,
            unreadable=tuple(self.setup.train.name(i) for i in sorted(state.unreadable)),
            stopped_by=self.stopping if state.step < self.timeline.steps else None,
        )
