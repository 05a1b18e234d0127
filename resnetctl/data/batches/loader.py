"""Batches of an index, and worker processes that fetch them in advance."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

from torch.utils.data import DataLoader, Dataset

from resnetctl.data.batches.batch import Batch, Handover, hand_over
from resnetctl.data.index import Index, open_unchanged
from resnetctl.errors import ResnetctlError
from resnetctl.parallel import end_with_parent


class IndexBatches(Dataset[Batch]):
    """Batches of the index that `view`, a TrainView or an EvalView, names."""

    def __init__(self, view: Any) -> None:
        self.view = view
        self._index: Index | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"view": self.view, "_index": None}

    @property
    def index(self) -> Index:
        """The index, mapped on first use in each process."""
        if self._index is None:
            self._index = open_unchanged(self.view.index, self.view.fingerprint)
        return self._index


# a terminal's Ctrl-C, torchrun's SIGTERM and Slurm's SIGUSR1 reach the whole process group: the trainer finishes its
# step, saves and stops, and needs its workers until then
_FOR_THE_TRAINER = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


def _start_worker(trainer: int, worker: int) -> None:
    for number in _FOR_THE_TRAINER:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _FOR_THE_TRAINER)
    end_with_parent(trainer)


@atexit.register
def _end_workers() -> None:
    # if an error kept a loader alive, multiprocessing would send them SIGTERM and wait for ever
    for process in multiprocessing.active_children():
        if process.daemon:
            process.kill()


class _ErrorsAsValues(Dataset[Any]):
    """Passes a worker's ResnetctlError on as a value: DataLoader would turn it into a message with a traceback."""

    def __init__(self, batches: Dataset[Batch]) -> None:
        self.batches = batches

    def __getitem__(self, item: int) -> Any:
        try:
            return hand_over(self.batches[item])
        except ResnetctlError as error:
            return error


def _start(dataset: Dataset[Any], items: Iterable[int], workers: int, pin: bool, timeout: int) -> Any:
    """DataLoader's iterator, without the signal handler that torch installs for a worker's death.

    The handler would raise wherever the main thread happens to be, such as in the middle of a save; without it, a death
    is noticed when the next batch is requested.
    """
    loader: DataLoader[Any] = DataLoader(
        dataset,
        batch_size=None,
        sampler=items,
        num_workers=workers,
        pin_memory=pin,
        timeout=timeout if workers else 0,
        prefetch_factor=2 if workers else None,
        worker_init_fn=partial(_start_worker, os.getpid()),
        # fork starts in 0.15 s and shares the mapped index; elsewhere (macOS) it is not safe
        multiprocessing_context="fork" if workers and sys.platform == "linux" else None,
    )
    # workers start with these signals blocked: one that arrived before they ignore it would kill them
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _FOR_THE_TRAINER)
    try:
        if threading.current_thread() is not threading.main_thread():
            return iter(loader)
        before = signal.getsignal(signal.SIGCHLD)
        batches = iter(loader)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL if before is None else before)
        return batches
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _explain(error: Exception, timeout: int) -> ResnetctlError | None:
    """The message for an error of DataLoader; None for a bug of our own in a worker."""
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    if text.startswith("DataLoader timed out"):
        _end_workers()  # else each one would be waited for in turn
        return ResnetctlError(
            f"no batch came from the loader workers for {timeout} seconds",
            hint="is the images' storage hanging? If it is only slow: --set data.timeout_seconds=1000; "
            "to continue: resnetctl train --resume",
        )
    # a batch's memory is fetched from its worker, so a dead worker appears as a lost connection
    lost = isinstance(error, EOFError | ConnectionError | FileNotFoundError) and not text.startswith("Caught ")
    if lost or text.startswith("DataLoader worker (pid"):
        return ResnetctlError(
            f"a loader worker died: {text}",
            hint="out of memory (see dmesg), or /dev/shm full (see resnetctl info)? Fewer --workers need less; "
            "to continue: resnetctl train --resume",
        )
    return None


def load(
    batches: Dataset[Batch], items: Iterable[int], *, workers: int, pin: bool, timeout: int = 0
) -> Iterator[Batch]:
    """The batches of `items`, in that order, fetched in advance by `workers` processes (0: in this one).

    Re-raises a worker's ResnetctlError, and raises one within seconds of a worker's death or when no batch arrives for
    `timeout` seconds (0: waits for ever).
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "This DataLoader will create", UserWarning)  # the user chose how many
        fetched = _start(_ErrorsAsValues(batches), items, workers, pin, timeout)
    try:
        for batch in fetched:
            if isinstance(batch, ResnetctlError):
                raise batch
            yield batch.take() if isinstance(batch, Handover) else batch
    except (RuntimeError, OSError, EOFError) as error:
        explained = _explain(error, timeout)
        if explained is None:
            raise
        raise explained from error
    finally:
        if workers:  # now: left to the garbage collector, it takes 20 seconds
            fetched._shutdown_workers()
