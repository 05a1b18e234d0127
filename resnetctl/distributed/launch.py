"""Starts the ranks of this machine, and restarts them after a failure."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from resnetctl.distributed.group import EXIT_LOST
from resnetctl.distributed.world import LAUNCH, LAUNCHER_PID, RESTARTS
from resnetctl.errors import ResnetctlError, exit_code_of

MAX_RESTARTS = 3
"""How many times `launch` restarts the ranks after one was killed."""

_SAVE_SECONDS = 600  # for a rank to finish its step and save, once asked to stop


def launch(processes: int, arguments: list[str], notice: Callable[[str], None], *, on_gpus: bool = False) -> int:
    """Run `resnetctl ARGUMENTS` in `processes` ranks on this machine and return the exit code.

    With `on_gpus` each rank has its own GPU and is bound to nearby cores.

    If a rank is killed, all of them restart from the last checkpoint, at most MAX_RESTARTS times. The first SIGINT,
    SIGTERM or SIGUSR1 is passed on; a second one ends everything at once. Raises ResnetctlError if ranks keep being
    killed.
    """
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    for name in ("torch.distributed.elastic", "torch.distributed.launcher", "torch.numa"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # `launch` reports what happened, once
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    folder = Path(tempfile.mkdtemp(prefix="resnetctl-launch-"))
    os.environ |= {LAUNCH: str(folder), LAUNCHER_PID: str(os.getpid())}
    _pass_on_signals(SignalException)
    what = ""
    try:
        for attempt in range(MAX_RESTARTS + 1):
            os.environ[RESTARTS] = str(attempt)
            try:
                _launch_once(processes, arguments, folder, near_their_gpus() if on_gpus else {})
                return 0
            except ChildFailedError as failed:
                codes = {rank: failure.exitcode for rank, failure in sorted(failed.failures.items())}
            told = [code for code in codes.values() if code > 0 and code != EXIT_LOST]
            if told:  # a rank failed by itself and said why
                return told[0]
            what = _what_happened(codes)
            if attempt < MAX_RESTARTS:
                notice(f"{what}: restarting all ranks from the last checkpoint ({attempt + 1} of {MAX_RESTARTS})")
    except SignalException as stop:
        told_code = folder / "exit-code"
        return int(told_code.read_text()) if told_code.exists() else exit_code_of(stop.sigval)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    raise ResnetctlError(
        f"{what}, after {MAX_RESTARTS} restarts",
        hint="dmesg may say why (out of memory?); to continue: resnetctl train --resume",
    )


def _launch_once(processes: int, arguments: list[str], folder: Path, options: dict[str, Any]) -> None:
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=folder.name,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",
        max_restarts=0,  # `launch` decides: a rank that failed by itself would fail again
        signals_to_handle="SIGHUP,SIGQUIT",
        shutdown_timeout=_SAVE_SECONDS,
        logs_specs=DefaultLogsSpecs(log_dir=str(folder)),
        **options,
    )
    elastic_launch(config, sys.executable)("-m", "resnetctl", *arguments)


_NODES = Path("/sys/devices/system/node")


def near_their_gpus() -> dict[str, Any]:
    """The option by which torch's launcher binds each rank to the cores of its GPU's NUMA node, if possible.

    That takes several nodes, the program numactl, and a launcher that supports it (torch 2.9).
    """
    if len(list(_NODES.glob("node[0-9]*"))) < 2 or shutil.which("numactl") is None:
        return {}
    try:
        from torch.numa.binding import AffinityMode, NumaOptions
    except ImportError:
        return {}
    options = NumaOptions(affinity_mode=AffinityMode.NODE, should_fall_back_if_binding_fails=True)
    return {"numa_options": options}


def _pass_on_signals(stop: type[Exception]) -> None:
    """Have the elastic agent pass on the first signal; leave at the second, and the kernel kills the ranks."""
    asked: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        if asked:
            os._exit(exit_code_of(number))
        asked.append(number)
        raise stop(f"signal {number}", sigval=signal.Signals(number))  # type: ignore[call-arg]

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, handle)


def _what_happened(codes: dict[int, int]) -> str:
    killed = {rank: signal.Signals(-code) for rank, code in codes.items() if code < 0}
    # the agent ends the survivors with SIGTERM
    first = {rank: number for rank, number in killed.items() if number != signal.SIGTERM} or killed
    return "; ".join(f"rank {rank} was killed by {number.name}" for rank, number in first.items()) or (
        "the ranks lost each other"
    )


def tell_launcher(code: int) -> None:
    """Leave the first rank's exit code for `launch`, which cannot see it after passing on a signal."""
    folder = os.environ.get(LAUNCH)
    if folder is not None and Path(folder).is_dir():
        (Path(folder) / "exit-code").write_text(str(code))
