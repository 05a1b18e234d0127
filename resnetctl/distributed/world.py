"""This process's rank, from its environment."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass

from resnetctl.errors import UsageError, printable

# what `launch` tells its ranks: its folder, its process, and how often it has restarted them
LAUNCH, LAUNCHER_PID, RESTARTS = "RESNETCTL_LAUNCH", "RESNETCTL_LAUNCHER_PID", "RESNETCTL_RESTARTS"


@dataclass(frozen=True, kw_only=True)
class World:
    """This process among the ranks that train together."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    """Number among the ranks of this machine."""
    local_size: int = 1
    launch: str | None = None
    """Identifies the launch of the ranks, the same after a restart; None for a single process."""
    restarts: int = 0
    """How often the launch was restarted after a failure, or requeued."""


def read_world(environ: Mapping[str, str]) -> World:
    """This rank from torchrun's variables, else from those of a Slurm step of several tasks, else a single process.

    Raises UsageError if they contradict each other.
    """
    names = {"rank": "RANK", "size": "WORLD_SIZE", "local_rank": "LOCAL_RANK", "local_size": "LOCAL_WORLD_SIZE"}
    if "RANK" not in environ or "WORLD_SIZE" not in environ:
        names = {"rank": "SLURM_PROCID", "size": "SLURM_STEP_NUM_TASKS", "local_rank": "SLURM_LOCALID"}
        if int(environ.get("SLURM_STEP_NUM_TASKS") or "1") == 1 or "SLURM_PROCID" not in environ:
            names = {}  # a batch script or an interactive shell, not one of several tasks
    try:
        numbers = {k: int(environ[v]) for k, v in names.items() if v in environ}
        if "local_size" not in numbers and names:
            tasks = environ.get("SLURM_STEP_TASKS_PER_NODE", "")  # such as 4(x2),3
            numbers["local_size"] = max([int(n) for n in re.findall(r"(?:^|,)(\d+)", tasks)] or [1])
        world = World(**numbers, launch=_launch(environ), restarts=_restarts(environ))
    except ValueError as error:
        raise UsageError(f"the rank in the environment is not a number: {printable(error)}") from None
    if not 0 <= world.rank < world.size:
        raise UsageError(f"the rank in the environment is {world.rank} of {world.size}")
    return world


def _launch(environ: Mapping[str, str]) -> str | None:
    if "SLURM_JOB_ID" in environ:  # the same after a requeue
        return f"slurm {environ['SLURM_JOB_ID']}.{environ.get('SLURM_STEP_ID', 'batch')}"
    if LAUNCH in environ:
        return environ[LAUNCH]
    if "TORCHELASTIC_RUN_ID" in environ:
        # torchrun calls a run `none` unless told otherwise; its process is the ranks' parent
        return f"torchrun {environ['TORCHELASTIC_RUN_ID']} {socket.gethostname()} {os.getppid()}"
    return None


def _restarts(environ: Mapping[str, str]) -> int:
    names = (RESTARTS, "TORCHELASTIC_RESTART_COUNT", "SLURM_RESTART_COUNT")
    return max(int(environ.get(name) or "0") for name in names)


def is_launched(environ: Mapping[str, str]) -> bool:
    """Whether `launch` started this process."""
    return LAUNCH in environ


def has_launcher(environ: Mapping[str, str]) -> bool:
    """Whether `launch` or torchrun started this process and passes signals on to it."""
    return is_launched(environ) or "TORCHELASTIC_RUN_ID" in environ


def is_a_rank(environ: Mapping[str, str]) -> bool:
    """Whether this process is one of several ranks, or has a launcher, which decides how many there are."""
    return has_launcher(environ) or read_world(environ).size > 1


def first_host(nodes: str) -> str:
    """The first name in Slurm's list of nodes: `gpu[08-11,20],login` is gpu08."""
    found = re.match(r"([^\[,]+)(?:\[([0-9]+)[^\]]*\]([^\[,]*))?", nodes)
    if not found:
        raise UsageError(f"no host name in Slurm's node list {printable(nodes)!r}")
    return found[1] + (found[2] or "") + (found[3] or "")
