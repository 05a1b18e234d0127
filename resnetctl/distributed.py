"""Several processes that train one model: who is who, what they agree on, and what one of them tells the others.

Ranks are started by torchrun, by Slurm's srun, or by `launch` here, and learn their numbers from the environment.
One process alone is a group of one, so that nothing else needs to ask.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import logging
import os
import re
import shutil
import signal
import socket
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous

from resnetctl.errors import EXIT_INTERRUPTED, EXIT_TERMINATED, ResnetctlError, UsageError, printable

TIMEOUT = timedelta(minutes=10)
"""How long a rank waits for the others in one collective."""

EXIT_LOST = 75
"""Exit code of a rank that lost the others: what happened is theirs to tell."""

RESTARTS = 3
"""How often `launch` starts the ranks again after one was killed."""

_SAVE_SECONDS = 600  # that ranks may take for their step and their checkpoint once they were asked to stop
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
# what `launch` tells its ranks: a folder of its own, the process, and how often it has started them again
_LAUNCH, _LAUNCHER_PID, _RESTARTS = "RESNETCTL_LAUNCH", "RESNETCTL_LAUNCHER_PID", "RESNETCTL_RESTARTS"


@dataclass(frozen=True, kw_only=True)
class World:
    """This process among those that train together."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    """Among those of this machine."""
    local_size: int = 1
    launch: str | None = None
    """Names what started the ranks; the same after a restart. None for a process on its own."""
    restarts: int = 0
    """How often the launch was started again after a failure, or requeued."""


def read_world(environ: Mapping[str, str]) -> World:
    """Who this process is by torchrun's variables, else by those of a Slurm step of several tasks, else alone.

    Raises UsageError where they contradict themselves.
    """
    names = {"rank": "RANK", "size": "WORLD_SIZE", "local_rank": "LOCAL_RANK", "local_size": "LOCAL_WORLD_SIZE"}
    if "RANK" not in environ or "WORLD_SIZE" not in environ:
        names = {"rank": "SLURM_PROCID", "size": "SLURM_STEP_NUM_TASKS", "local_rank": "SLURM_LOCALID"}
        if int(environ.get("SLURM_STEP_NUM_TASKS") or "1") == 1 or "SLURM_PROCID" not in environ:
            names = {}  # a batch script or a shell of Slurm's, not one of several tasks
    try:
        numbers = {k: int(environ[v]) for k, v in names.items() if v in environ}
        if "local_size" not in numbers and names:
            tasks = environ.get("SLURM_STEP_TASKS_PER_NODE", "")  # such as 4(x2),3
            numbers["local_size"] = max([int(n) for n in re.findall(r"(?:^|,)(\d+)", tasks)] or [1])
        world = World(**numbers, launch=_launch(environ), restarts=_restarts(environ))
    except ValueError as error:
        raise UsageError(f"the environment says no number where a rank should be: {printable(error)}") from None
    if not 0 <= world.rank < world.size:
        raise UsageError(f"the environment says that this is rank {world.rank} of {world.size}")
    return world


def _launch(environ: Mapping[str, str]) -> str | None:
    if "SLURM_JOB_ID" in environ:  # the same after a requeue
        return f"slurm {environ['SLURM_JOB_ID']}.{environ.get('SLURM_STEP_ID', 'batch')}"
    if _LAUNCH in environ:
        return environ[_LAUNCH]
    if "TORCHELASTIC_RUN_ID" in environ:
        # torchrun's own name for a run is `none` unless the user gave one; its process is the parent of the ranks
        return f"torchrun {environ['TORCHELASTIC_RUN_ID']} {socket.gethostname()} {os.getppid()}"
    return None


def _restarts(environ: Mapping[str, str]) -> int:
    names = (_RESTARTS, "TORCHELASTIC_RESTART_COUNT", "SLURM_RESTART_COUNT")
    return max(int(environ.get(name) or "0") for name in names)


def is_launched(environ: Mapping[str, str]) -> bool:
    """Whether `launch` started this process."""
    return _LAUNCH in environ


def has_launcher(environ: Mapping[str, str]) -> bool:
    """Whether a process above this one, of `launch` or torchrun, started it and passes on signals."""
    return is_launched(environ) or "TORCHELASTIC_RUN_ID" in environ


def first_host(nodes: str) -> str:
    """The first name in Slurm's list of nodes: `gpu[08-11,20],login` is gpu08."""
    found = re.match(r"([^\[,]+)(?:\[([0-9]+)[^\]]*\]([^\[,]*))?", nodes)
    if not found:
        raise UsageError(f"no host in Slurm's list of nodes {printable(nodes)!r}")
    return found[1] + (found[2] or "") + (found[3] or "")


class LostRankError(ResnetctlError):
    """Another rank does not answer any more."""

    exit_code = EXIT_LOST


_LOST = re.compile(r"onnection (closed|reset|refused)|roken pipe|\bgloo\b|\bNCCL\b|[Ss]ocket|[Tt]imed out waiting")


def as_lost_rank(error: BaseException) -> LostRankError | None:
    """`error` where it is a collective's complaint that another rank is gone; None where it is anything else."""
    if isinstance(error, LostRankError):
        return error
    known = isinstance(error, dist.DistError) or (type(error) is RuntimeError and _LOST.search(str(error)))
    if not known:
        return None
    return LostRankError(
        f"another rank is gone, or did not answer: {printable(str(error).splitlines()[0][:200])}",
        hint="its machine's log or dmesg may say why; go on with: resnetctl train --resume",
    )


class Group:
    """The ranks of a run, as seen by one of them. Alone, every question has its own answer."""

    def __init__(self, world: World, store: Any = None) -> None:
        self.world = world
        self._store = store

    @property
    def size(self) -> int:
        """How many ranks there are."""
        return self.world.size

    @property
    def rank(self) -> int:
        """This one's number."""
        return self.world.rank

    @property
    def is_first(self) -> bool:
        """Whether this rank writes, prints and decides."""
        return self.world.rank == 0

    def highest(self, values: Sequence[int]) -> list[int]:
        """The highest of each value over all ranks: what they agree on, one small message between CPUs."""
        if self.size == 1:
            return list(values)
        numbers = torch.tensor(values, dtype=torch.int64)
        with _lost():
            dist.all_reduce(numbers, dist.ReduceOp.MAX)
        return [int(n) for n in numbers]

    def total(self, numbers: torch.Tensor) -> torch.Tensor:
        """The sum over all ranks, on the device of `numbers`."""
        if self.size == 1:
            return numbers
        numbers = numbers.clone()
        with _lost():
            dist.all_reduce(numbers)
        return numbers

    def gather(self, value: Any) -> list[Any]:
        """What each rank gives, in the order of ranks."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        with _lost():
            dist.all_gather_object(values, value)
        return values

    def share(self, value: Any) -> Any:
        """What the first rank gives."""
        if self.size == 1:
            return value
        box = [value if self.is_first else None]
        with _lost():
            dist.broadcast_object_list(box, 0, device=torch.device("cpu"))
        return box[0]

    def share_tensors(self, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The first rank's tensors, on every rank's CPU; theirs need not exist elsewhere."""
        if self.size == 1:
            return dict(tensors)
        places = self.share([(k, t.dtype, t.shape) for k, t in tensors.items()])
        shared = {}
        for name, dtype, shape in places:
            tensor = tensors[name].contiguous() if self.is_first else torch.empty(shape, dtype=dtype)
            with _lost():
                dist.broadcast(tensor, 0)
            shared[name] = tensor
        return shared

    def overwrite(self, tensors: Sequence[torch.Tensor]) -> None:
        """Put the first rank's values into `tensors` of every rank, where they are."""
        if self.size > 1:
            with _lost(), torch.no_grad():
                for tensor in tensors:
                    dist.broadcast(tensor, 0)

    def claim_error(self) -> bool:
        """Whether this rank is the first with an error to show; the others' follow from it, or are the same."""
        if self.size == 1:
            return True
        try:
            return bool(self._store.add("error", 1) == 1)
        except RuntimeError:
            return True  # whoever kept the store is gone

    def wrap(self, model: torch.nn.Module, device: torch.device) -> torch.nn.parallel.DistributedDataParallel:
        """`model` in DistributedDataParallel, which averages gradients over the ranks."""
        numbers = None if device.type == "cpu" else [device]
        with _lost():
            return torch.nn.parallel.DistributedDataParallel(model, device_ids=numbers)


ALONE = Group(World())


@contextlib.contextmanager
def _lost() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        lost = as_lost_rank(error)
        if lost is None:
            raise
        raise lost from error


@contextlib.contextmanager
def joined(world: World) -> Iterator[Group]:
    """The group of all ranks, from the rendezvous to the end of what is inside.

    Collectives between CPUs go over gloo, those between CUDA devices over NCCL. Raises LostRankError where the
    others do not come.
    """
    if world.size == 1:
        yield ALONE
        return
    if "RANK" not in os.environ:
        _translate_slurm(world)
    with _lost():
        store, _, _ = next(iter(rendezvous("env://", world.rank, world.size, timeout=TIMEOUT)))
        store = dist.PrefixStore(_gathering(store, world), store)
        cuda = torch.cuda.is_available() and dist.is_nccl_available()
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if cuda else "gloo",
            store=dist.PrefixStore("group", store),
            rank=world.rank,
            world_size=world.size,
            timeout=TIMEOUT,
        )
    try:
        yield Group(world, dist.PrefixStore("resnetctl", store))
    finally:
        with contextlib.suppress(RuntimeError):
            dist.destroy_process_group()


def _gathering(store: Any, world: World) -> str:
    """A name that all ranks of this start have in common, and no earlier start had.

    torchrun's c10d rendezvous keeps one store for all starts, so that the addresses of ranks that are gone still stand
    in it; and its count of restarts differs from node to node. So each rank leaves a word of its own there; the first
    one shows all of them, until every rank has found its word among them.
    """
    word = uuid.uuid4().hex
    store.set(f"word {world.rank}", word)
    end = time.monotonic() + TIMEOUT.total_seconds()
    while time.monotonic() < end:
        if world.rank == 0:
            words = " ".join(store.get(f"word {rank}").decode() for rank in range(world.size))
            store.set("words", words)
        else:
            words = store.get("words").decode()
        if word in words.split():
            name = hashlib.sha256(words.encode()).hexdigest()
            store.set(f"{name} seen by {world.rank}", "")
            if world.rank > 0 and store.check([f"{name} is seen by all"]):
                return name
            if world.rank == 0 and store.check([f"{name} seen by {rank}" for rank in range(world.size)]):
                store.set(f"{name} is seen by all", "")
                return name
        time.sleep(0.02)
    raise LostRankError(f"not all of the {world.size} ranks came", hint="their logs may say why")


def _translate_slurm(world: World) -> None:
    """Slurm's variables in the words of torch's rendezvous."""
    os.environ["RANK"], os.environ["WORLD_SIZE"] = str(world.rank), str(world.size)
    os.environ.setdefault("MASTER_ADDR", first_host(os.environ.get("SLURM_STEP_NODELIST", "localhost")))
    step = int(os.environ.get("SLURM_JOB_ID") or "0") * 16 + int(os.environ.get("SLURM_STEP_ID") or "0")
    os.environ.setdefault("MASTER_PORT", str(20_000 + step % 10_000))


# --- starting ranks -------------------------------------------------------------------------------------------------


def launch(processes: int, arguments: list[str], notice: Callable[[str], None]) -> int:
    """Run `resnetctl ARGUMENTS` in so many ranks on this machine and return the exit code.

    Where a rank is killed all are started anew, at most RESTARTS times, and go on from their last checkpoint. SIGINT,
    SIGTERM and SIGUSR1 are passed on once; a second one ends everything at once. Raises ResnetctlError where ranks are
    killed again and again.
    """
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    for name in ("torch.distributed.elastic", "torch.distributed.launcher"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # what happened is told here, once
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    folder = Path(tempfile.mkdtemp(prefix="resnetctl-launch-"))
    os.environ |= {_LAUNCH: str(folder), _LAUNCHER_PID: str(os.getpid())}
    _pass_on_signals(SignalException)
    what = ""
    try:
        for attempt in range(RESTARTS + 1):
            os.environ[_RESTARTS] = str(attempt)
            try:
                _launch_once(processes, arguments, folder)
                return 0
            except ChildFailedError as failed:
                codes = {rank: failure.exitcode for rank, failure in sorted(failed.failures.items())}
            told = [code for code in codes.values() if code > 0 and code != EXIT_LOST]
            if told:  # a rank ended of itself, and said why
                return told[0]
            what = _what_happened(codes)
            if attempt < RESTARTS:
                notice(f"{what}: all ranks start again from the last checkpoint ({attempt + 1} of {RESTARTS} times)")
    except SignalException as stop:
        told_code = folder / "exit-code"
        return int(told_code.read_text()) if told_code.exists() else _exit_code(stop.sigval)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    raise ResnetctlError(
        f"{what}, after {RESTARTS} new starts",
        hint="dmesg may say why (was the memory used up?); then go on with: resnetctl train --resume",
    )


def _launch_once(processes: int, arguments: list[str], folder: Path) -> None:
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
        max_restarts=0,  # ranks that end of themselves must not be started again, so `launch` decides
        signals_to_handle="SIGHUP,SIGQUIT",
        shutdown_timeout=_SAVE_SECONDS,
        logs_specs=DefaultLogsSpecs(log_dir=str(folder)),
    )
    elastic_launch(config, sys.executable)("-m", "resnetctl", *arguments)


def _pass_on_signals(stop: type[Exception]) -> None:
    """Let the elastic agent pass on the first signal; leave at the second: the kernel then kills the ranks."""
    asked: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        if asked:
            os._exit(_exit_code(number))
        asked.append(number)
        raise stop(f"signal {number}", sigval=signal.Signals(number))  # type: ignore[call-arg]

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, handle)


def _exit_code(number: int) -> int:
    return EXIT_INTERRUPTED if number == signal.SIGINT else EXIT_TERMINATED


def _what_happened(codes: dict[int, int]) -> str:
    killed = {rank: signal.Signals(-code) for rank, code in codes.items() if code < 0}
    # the agent ends the survivors with SIGTERM
    first = {rank: number for rank, number in killed.items() if number != signal.SIGTERM} or killed
    return "; ".join(f"rank {rank} was killed by {number.name}" for rank, number in first.items()) or (
        "the ranks lost each other"
    )


def die_with_launcher() -> None:
    """Let the kernel kill this rank when its launcher ends, however that happens: no orphan goes on writing."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    expected = os.environ.get(_LAUNCHER_PID)
    if expected is not None and int(expected) != os.getppid():
        os._exit(EXIT_LOST)  # it ended before the line above


def tell_launcher(code: int) -> None:
    """Leave the first rank's exit code for `launch`, which cannot read it where it passed on a signal."""
    folder = os.environ.get(_LAUNCH)
    if folder is not None and Path(folder).is_dir():
        (Path(folder) / "exit-code").write_text(str(code))
