"""The ranks of a run and their collectives.

A single process is a group of one, so that no caller has to distinguish the cases.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous

from resnetctl.distributed.world import LAUNCHER_PID, World, first_host, has_launcher
from resnetctl.errors import ResnetctlError, printable
from resnetctl.parallel import end_with_parent

TIMEOUT = timedelta(minutes=10)
"""How long a rank waits for the others in a collective."""

EXIT_LOST = 75
"""Exit code of a rank that lost another one; the other reports what happened."""


class LostRankError(ResnetctlError):
    """Another rank is gone or does not answer."""

    exit_code = EXIT_LOST


_LOST = re.compile(r"onnection (closed|reset|refused)|roken pipe|\bgloo\b|\bNCCL\b|[Ss]ocket|[Tt]imed out waiting")


def as_lost_rank(error: BaseException) -> LostRankError | None:
    """A LostRankError for the error of a collective that lost another rank; None for any other error."""
    if isinstance(error, LostRankError):
        return error
    known = isinstance(error, dist.DistError) or (type(error) is RuntimeError and _LOST.search(str(error)))
    if not known:
        return None
    return LostRankError(
        f"another rank is gone, or did not answer: {printable(str(error).splitlines()[0][:200])}",
        hint="its log, or dmesg on its machine, may say why; to continue: resnetctl train --resume",
    )


class Group:
    """The ranks of a run, as seen by one of them."""

    def __init__(self, world: World, store: Any = None) -> None:
        self.world = world
        self.leaving = threading.Event()
        """Set once this rank is about to exit after an error and needs no intervention."""
        self._store = store

    @property
    def size(self) -> int:
        """The number of ranks."""
        return self.world.size

    @property
    def rank(self) -> int:
        """The number of this rank."""
        return self.world.rank

    @property
    def is_first(self) -> bool:
        """Whether this rank writes, prints and decides."""
        return self.world.rank == 0

    def all_max(self, values: Sequence[int]) -> list[int]:
        """The maximum of each value over all ranks, in one small message between CPUs."""
        return list(values) if self.size == 1 else self.begin_max(values)()

    def begin_max(self, values: Sequence[int]) -> Callable[[], list[int]]:
        """As `all_max`, in the background; calling the returned function waits for the result."""
        numbers = torch.tensor(values, dtype=torch.int64)
        with _lost():
            work = dist.all_reduce(numbers, dist.ReduceOp.MAX, async_op=True)

        def end() -> list[int]:
            with _lost():
                work.wait()
            return numbers.tolist()

        return end

    def all_sum(self, numbers: torch.Tensor) -> torch.Tensor:
        """The sum over all ranks, on the device of `numbers`."""
        if self.size == 1:
            return numbers
        numbers = numbers.clone()
        with _lost():
            dist.all_reduce(numbers)
        return numbers

    def all_gather(self, value: Any) -> list[Any]:
        """The value of each rank, in rank order."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        with _lost():
            dist.all_gather_object(values, value)
        return values

    def broadcast(self, value: Any) -> Any:
        """The first rank's value."""
        if self.size == 1:
            return value
        box = [value if self.is_first else None]
        with _lost():
            dist.broadcast_object_list(box, 0, device=torch.device("cpu"))
        return box[0]

    def broadcast_tensors(self, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The first rank's tensors, on every rank's CPU; the others' arguments are ignored."""
        if self.size == 1:
            return dict(tensors)
        places = self.broadcast([(k, t.dtype, t.shape) for k, t in tensors.items()])
        shared = {}
        for name, dtype, shape in places:
            tensor = tensors[name].contiguous() if self.is_first else torch.empty(shape, dtype=dtype)
            with _lost():
                dist.broadcast(tensor, 0)
            shared[name] = tensor
        return shared

    def broadcast_in_place(self, tensors: Sequence[torch.Tensor]) -> None:
        """Overwrite `tensors` with the first rank's values."""
        if self.size > 1:
            with _lost(), torch.no_grad():
                for tensor in tensors:
                    dist.broadcast(tensor, 0)

    def claim_error(self) -> bool:
        """Whether this rank is the first to have an error. Raises RuntimeError if rank 0 is gone."""
        return bool(self._store.add("error", 1) == 1)

    def wrap_ddp(self, model: torch.nn.Module, device: torch.device) -> torch.nn.parallel.DistributedDataParallel:
        """`model` in DistributedDataParallel, which averages its gradients over the ranks.

        The ranks begin with the first one's parameters and buffers. Afterwards each keeps its own buffers: the first
        rank's are used, and broadcasting them before every step would not change them.
        """
        numbers = None if device.type == "cpu" else [device]
        with _lost():
            ddp = torch.nn.parallel.DistributedDataParallel(model, device_ids=numbers, gradient_as_bucket_view=True)
        ddp.broadcast_buffers = False  # its keyword is deprecated, and would skip the first time as well
        return ddp


ALONE = Group(World())


_SEVERAL_NODES = (
    "on several nodes each host name must resolve to an address that the others can reach, not 127.0.1.1; else set the "
    "network interface: GLOO_SOCKET_IFNAME=eth0 and NCCL_SOCKET_IFNAME=eth0 (ip addr lists them)"
)


@contextlib.contextmanager
def _lost(hint: str | None = None) -> Iterator[None]:
    """Turn a collective's error into a LostRankError, with `hint` if given."""
    try:
        yield
    except RuntimeError as error:
        lost = as_lost_rank(error)
        if lost is None:
            raise
        if hint is not None:
            lost = LostRankError(lost.message, hint=hint)
        raise lost from error


@contextlib.contextmanager
def joined(world: World) -> Iterator[Group]:
    """The group of all ranks, from the rendezvous to the end of the block.

    The process ends with its launcher, however that ends. CPU tensors go over gloo, CUDA tensors over NCCL. After an
    error the process group is not destroyed: that would wait for the other ranks. Raises LostRankError if other ranks
    do not join.
    """
    if world.size == 1:
        yield ALONE
        return
    if has_launcher(os.environ):  # before the rendezvous, where a rank whose launcher is gone would wait for others
        end_with_parent(int(os.environ.get(LAUNCHER_PID) or os.getppid()))
    if "RANK" not in os.environ:
        _translate_slurm(world)
    with _lost(_SEVERAL_NODES if world.size > world.local_size else None):
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
    yield Group(world, dist.PrefixStore("resnetctl", store))
    with contextlib.suppress(RuntimeError):
        dist.destroy_process_group()


def _gathering(store: Any, world: World) -> str:
    """A name shared by all ranks of this start, and by none of an earlier one.

    torchrun's c10d rendezvous keeps one store across restarts, which still holds the addresses of former ranks, and its
    restart count differs between nodes. So each rank stores a random word, and the first rank publishes all of them
    until every rank has found its own.
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
    raise LostRankError(f"not all {world.size} ranks have joined", hint="their logs may say why")


def _translate_slurm(world: World) -> None:
    """Set the variables of torch's rendezvous from Slurm's."""
    os.environ["RANK"], os.environ["WORLD_SIZE"] = str(world.rank), str(world.size)
    os.environ.setdefault("MASTER_ADDR", first_host(os.environ.get("SLURM_STEP_NODELIST", "localhost")))
    step = int(os.environ.get("SLURM_JOB_ID") or "0") * 16 + int(os.environ.get("SLURM_STEP_ID") or "0")
    os.environ.setdefault("MASTER_PORT", str(20_000 + step % 10_000))
