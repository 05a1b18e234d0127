"""Saves while training continues: the state is copied between two steps, and a thread writes it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable

import torch

from resnetctl.engine.device import synchronise
from resnetctl.engine.events import Saved
from resnetctl.errors import CheckpointError, ResnetctlError, printable
from resnetctl.runs.checkpoint import Checkpoint, save_checkpoint
from resnetctl.runs.commits import Commit, commits, remove, verify_commit
from resnetctl.runs.folder import Run
from resnetctl.runs.metadata import Metadata


class Saver:
    """Writes at most one checkpoint at a time. A failure is raised by the next call of any method."""

    def __init__(self, run: Run, keep: int) -> None:
        self.run, self.keep = run, keep
        self.commit: Commit | None = None
        """The last one committed."""
        self.seconds = self.total_seconds = 0.0
        """Duration of the last save, in parallel to training, and of all of them; 0 before the first."""
        self._copies: dict[str, torch.Tensor] = {}
        self._thread: threading.Thread | None = None
        self._outcome: Saved | Exception

    def start(self, tensors: dict[str, torch.Tensor], metadata: Metadata, spared: set[int]) -> list[Saved]:
        """Copy `tensors` and begin to write them; waits for the checkpoint before this one, and returns it.

        Once it is committed, all but the newest `keep` are deleted, except the steps in `spared`.
        """
        saved, step = self.wait(), metadata.step
        existing = next((c for c in commits(self.run.checkpoints) if c.step == step), None)
        if existing is not None:  # the same step has the same tensors, and finished files are never replaced
            self.commit = existing
            return saved
        checkpoint = Checkpoint(self._copy(tensors), metadata)
        # daemon: a second Ctrl-C does not wait for it
        self._thread = threading.Thread(target=self._write, args=(checkpoint, spared), daemon=True, name="saver")
        self._thread.start()
        return saved

    def _copy(self, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Copy into the previous copy's memory, which is page-locked with a CUDA device."""
        if not all(k in self._copies and self._copies[k].shape == t.shape for k, t in tensors.items()):
            self._copies = {
                k: torch.empty_like(
                    t, device="cpu", memory_format=torch.contiguous_format, pin_memory=t.device.type == "cuda"
                )
                for k, t in tensors.items()
            }
        for k, t in tensors.items():
            self._copies[k].copy_(t, non_blocking=True)
        for device in {t.device for t in tensors.values()}:
            synchronise(device)
        return {k: self._copies[k] for k in tensors}

    def _write(self, checkpoint: Checkpoint, spared: set[int]) -> None:
        began = time.perf_counter()
        try:
            self.run.sync_metrics()  # the checkpoint goes on after these lines
            commit = save_checkpoint(self.run.checkpoints, checkpoint)
            prune(commits(self.run.checkpoints), commit, self.keep, spared)
        except Exception as error:
            self._outcome = error
            return
        self.commit, self.seconds = commit, time.perf_counter() - began
        self.total_seconds += self.seconds
        self._outcome = Saved(step=commit.step, path=commit.path, bytes=commit.size, seconds=self.seconds)

    @property
    def is_busy(self) -> bool:
        """Whether a checkpoint is being written."""
        return self._thread is not None and self._thread.is_alive()

    def poll(self) -> list[Saved]:
        """The checkpoints saved since the last call, without waiting. Raises ResnetctlError if a save failed."""
        if self._thread is None or self._thread.is_alive():
            return []
        self._thread = None
        if isinstance(self._outcome, Exception):
            raise self._explain(self._outcome) from self._outcome
        return [self._outcome]

    def wait(self) -> list[Saved]:
        """As `poll`, after any pending save."""
        if self._thread is not None:
            self._thread.join()
        return self.poll()

    def _explain(self, error: Exception) -> Exception:
        if not isinstance(error, OSError):
            return error
        newest = next(iter(commits(self.run.checkpoints)), None)
        kept = f"the checkpoint of step {newest.step:,} is intact" if newest else "none was saved before"
        return ResnetctlError(
            f"cannot save a checkpoint in {printable(self.run.checkpoints)}: {error.strerror or error} ({kept})",
            hint="free some space there, then continue with: resnetctl train --resume",
        )


def prune(found: Iterable[Commit], new: Commit, keep: int, spared: set[int]) -> None:
    """Delete all but the newest `keep`, those of the steps in `spared`, and the newest two intact ones.

    `new` was verified when it was written; others are read again before anything is deleted.
    """
    newest_first = sorted(found, key=lambda c: c.step, reverse=True)
    old = [c for c in newest_first[keep:] if c.step not in spared]
    if not old:
        return
    whole = 1
    for commit in newest_first:
        if whole == 2:
            break
        if commit.step == new.step:
            continue
        try:
            verify_commit(commit)
        except CheckpointError:
            continue
        whole += 1
        old = [c for c in old if c.step != commit.step]
    for commit in old:
        remove(commit)
