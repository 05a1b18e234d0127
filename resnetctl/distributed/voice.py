"""Errors of several ranks: reported once, and ending all of them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

from resnetctl.distributed.group import EXIT_LOST, Group, as_lost_rank
from resnetctl.distributed.launch import tell_launcher
from resnetctl.distributed.watch import Watch
from resnetctl.distributed.world import is_launched
from resnetctl.errors import ResnetctlError


@contextmanager
def one_voice(group: Group, tell: Callable[[BaseException], int]) -> Iterator[None]:
    """Inside, an error ends the process: the first rank to have one calls `tell`, the others exit silently.

    `tell` shows an error and returns the exit code; the others' is EXIT_LOST. No collective is entered on the way out
    and no process group destroyed: the others may be in another collective or gone. A single process is unaffected.
    """
    if group.size == 1:
        yield
        return
    watch = Watch(group, lambda lost: _leave(watch, _told(group, watch, lost, tell)))
    try:
        yield
        watch.end()
    except BaseException as error:
        group.leaving.set()
        _leave(watch, _told(group, watch, error, tell))


def _told(group: Group, watch: Watch, error: BaseException, tell: Callable[[BaseException], int]) -> int:
    """Report `error` if it is this rank's to report; returns the exit code."""
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 1
    lost = as_lost_rank(error)
    if (lost and is_launched(os.environ)) or not _is_ours(group, watch):
        return EXIT_LOST
    shown = lost or error
    if isinstance(shown, ResnetctlError):
        shown = type(shown)(f"rank {group.rank}: {shown.message}", hint=shown.hint)
    code = tell(shown)
    tell_launcher(code)
    return code


def _is_ours(group: Group, watch: Watch) -> bool:
    """Whether no other rank reports an error: by the store, or if that is gone, by the watch."""
    try:
        return group.claim_error()
    except RuntimeError:  # the first rank, which kept the store, is gone
        return not watch.has_heard_of_failure()


def _leave(watch: Watch, code: int) -> NoReturn:
    watch.fail()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)  # the interpreter would wait for the process group's pending work
