"""Starts ranks of a function of a test module, each in a process of its own."""

import os
import socket
import subprocess
from collections.abc import Callable
from dataclasses import dataclass

from tests import process


@dataclass
class Ended:
    """A rank that has come to its end."""

    code: int
    out: str
    err: str


def start(function: Callable[..., None], size: int, *args: object) -> "list[subprocess.Popen[str]]":
    """`function(*args)` in `size` ranks on this machine, with torchrun's variables and no launcher."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    clean = {
        k: v for k, v in process.environment().items() if not k.startswith(("RESNETCTL_", "SLURM_", "TORCHELASTIC"))
    }
    common = {**clean, "WORLD_SIZE": str(size), "MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
    common |= {"OMP_NUM_THREADS": "1", "LOCAL_WORLD_SIZE": str(size)}
    return [
        subprocess.Popen(
            process.command(function, *args),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(size)
    ]


def run(function: Callable[..., None], size: int, *args: object, seconds: float = 180) -> list[Ended]:
    """How each rank ended; those that do not within `seconds` are killed, and an AssertionError raised."""
    started = start(function, size, *args)
    try:
        outputs = [rank.communicate(timeout=seconds) for rank in started]
    except subprocess.TimeoutExpired:
        raise AssertionError(f"a rank hangs: {[rank.poll() for rank in started]}") from None
    finally:
        for rank in started:
            rank.kill()
    return [Ended(rank.returncode, *output) for rank, output in zip(started, outputs, strict=True)]


def results(function: Callable[..., None], size: int, *args: object) -> list[str]:
    """What each rank printed; each must have ended well."""
    ended = run(function, size, *args)
    assert [rank.code for rank in ended] == [0] * size, [rank.err for rank in ended]
    return [rank.out for rank in ended]


def number() -> int:
    """This process's rank."""
    return int(os.environ["RANK"])
