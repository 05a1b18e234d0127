"""Detects that another rank is gone, whatever this one is doing."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from datetime import timedelta

import torch
import torch.distributed as dist

from resnetctl.distributed.group import Group, LostRankError, as_lost_rank

GRACE_SECONDS = 5.0
"""Time for a rank to notice by itself that another one is gone, and to exit in an orderly way."""

_FOR_EVER = timedelta(days=3650)
_FAILED, _DONE = 1.0, 2.0


class Watch:
    """A thread that waits for the previous rank in a ring of all ranks to report its end.

    If that rank fails, or its connection breaks because it was killed, the next rank is told at once. Unless this rank
    is leaving already (`Group.leaving`), or does so within GRACE_SECONDS (twice that if it was only told), `lost` is
    called, which ends the process. Without a watch, a rank waiting for its GPU would wait until
    NCCL's collectives time out.
    """

    def __init__(self, group: Group, lost: Callable[[LostRankError], None]) -> None:
        self._group, self._lost = group, lost
        self._heard, self._word = threading.Event(), 0.0
        self._speaking, self._has_spoken = threading.Lock(), False
        ring = dist.new_group(backend="gloo", timeout=_FOR_EVER)
        assert isinstance(ring, dist.ProcessGroup)
        self._ring = ring
        self._thread = threading.Thread(target=self._wait, daemon=True, name="watch")
        self._thread.start()

    def _wait(self) -> None:
        word = torch.zeros(1)
        lost = LostRankError("another rank has failed")
        try:
            dist.recv(word, (self._group.rank - 1) % self._group.size, group=self._ring)
        except RuntimeError as error:
            lost = as_lost_rank(error) or lost
        self._word = word.item()
        self._heard.set()
        if self._word != _DONE:
            self.fail()
            # who noticed the loss knows more of it than who was told, and so reports it first
            if not self._group.leaving.wait(GRACE_SECONDS * (2 if self._word == _FAILED else 1)):
                self._lost(lost)

    def has_heard_of_failure(self) -> bool:
        """Whether the previous rank has reported a failure; waits up to GRACE_SECONDS for it."""
        return self._heard.wait(GRACE_SECONDS) and self._word == _FAILED

    def fail(self) -> None:
        """Report that a rank has failed; one of the ranks before the next one tells why."""
        with contextlib.suppress(RuntimeError):
            self._say(_FAILED)

    def end(self) -> None:
        """Report that this rank is done, and wait until the previous one is, too."""
        self._say(_DONE)
        self._thread.join()

    def _say(self, word: float) -> None:
        """Send one report; later ones are ignored, since the next rank reads only one."""
        with self._speaking:
            if not self._has_spoken:
                self._has_spoken = True
                sent = dist.isend(torch.tensor([word]), (self._group.rank + 1) % self._group.size, group=self._ring)
                assert sent is not None
                sent.wait(timedelta(seconds=GRACE_SECONDS))  # not for ever, if that rank is the one that is gone
