"""Ranks that `--gpus` and `--cpu-procs` start on this machine."""

import os
import sys

from resnetctl.cli import console


def start_ranks(gpus: str | None, cpu_procs: int | None, device: str) -> int | None:
    """Start the ranks asked for and return their exit code; None if this is the only process, or a rank."""
    from resnetctl.distributed.world import is_a_rank

    if (gpus is None and cpu_procs is None) or is_a_rank(os.environ):
        return None
    from resnetctl.distributed.launch import launch
    from resnetctl.engine.device import local_ranks

    ranks = local_ranks(gpus, cpu_procs, device)
    return launch(ranks, sys.argv[1:], console.warn, on_gpus=gpus is not None) if ranks > 1 else None
