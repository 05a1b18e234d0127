"""Several ranks, one voice: the first rank tells how the run goes, and an error is told once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from resnetctl.distributed.group import EXIT_LOST, Group, as_lost_rank
from resnetctl.distributed.launch import die_with_launcher, tell_launcher
from resnetctl.distributed.world import has_launcher, is_launched
from resnetctl.errors import ResnetctlError


@contextmanager
def one_voice(group: Group) -> Iterator[None]:
    """While inside, an error is raised by the first rank that has one, with the rank's number; the others just leave.

    They leave with EXIT_LOST. Alone, nothing changes.
    """
    if group.size == 1:
        yield
        return
    if has_launcher(os.environ):
        die_with_launcher()
    try:
        yield
    except Exception as error:
        lost = as_lost_rank(error)
        if (lost and is_launched(os.environ)) or not group.claim_error():
            raise SystemExit(EXIT_LOST) from None
        shown: Exception = lost or error
        if isinstance(shown, ResnetctlError):
            tell_launcher(shown.exit_code)
            raise type(shown)(f"rank {group.rank}: {shown.message}", hint=shown.hint) from error
        raise
