"""Processes of `resnetctl` that start in no time: one process imports everything once, and forks for each command.

Each command is a process of its own, in a session of its own, running the program's real entry point with its own
environment and output files; it can be killed like any other, at any time or at a moment (see `tests.moments`).
"""

import contextlib
import importlib
import json
import os
import pkgutil
import resource
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from tests.moments import Moment, kill_before


class Command:
    """One command that runs."""

    def __init__(self, zygote: "Zygote", pid: int, out: Path, err: Path) -> None:
        self._zygote, self.pid, self._out, self._err = zygote, pid, out, err
        self.returncode: int | None = None

    def wait(self) -> int:
        if self.returncode is None:
            self.returncode = int(self._zygote.answer())
        return self.returncode

    def is_running(self) -> bool:
        try:
            stat = Path(f"/proc/{self.pid}/stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return False
        return stat.rpartition(")")[2].split()[0] != "Z"

    def send(self, number: int) -> None:
        if self.is_running():  # else it came to its end, and the zygote has waited for it
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    @property
    def out(self) -> str:
        return self._out.read_text()

    @property
    def err(self) -> str:
        return self._err.read_text()

    def until(self, condition, seconds: float = 120) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert self.is_running(), self.err
            assert time.monotonic() < end, self.err
            time.sleep(0.005)


class Zygote:
    """Start it once; commands run one at a time."""

    def __init__(self, folder: Path, **env: str) -> None:
        clean = {k: v for k, v in os.environ.items() if not k.startswith("RESNETCTL_")}
        # one thread each: quick beside other tests, and the bits of a result depend on the number
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.zygote"],
            cwd=Path(__file__).parents[1],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**clean, "OMP_NUM_THREADS": "1", "RESNETCTL_PROGRESS_SECONDS": "0", **env},
        )
        self._folder, self._count = folder, 0
        self._last: Command | None = None

    def start(
        self, *args: object, limits: dict[str, int] | None = None, kill: Moment | None = None, **env: str
    ) -> Command:
        """Run `resnetctl ARGS` under resource limits (`RLIMIT_…`), to be killed at a moment, with `env` added."""
        if self._last is not None:  # of a test that failed before it had waited
            self._last.send(signal.SIGKILL)
            self._last.wait()
        self._count += 1
        out, err = (self._folder / f"{self._count}.{kind}" for kind in ("out", "err"))
        for path in (out, err):
            path.touch()
        order = {
            "args": [str(a) for a in args],
            "env": env,
            "limits": limits or {},
            "kill": kill,
            "cwd": str(self._folder),
            "out": str(out),
            "err": str(err),
        }
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        self._last = Command(self, int(self.answer()), out, err)
        return self._last

    def run(
        self, *args: object, limits: dict[str, int] | None = None, kill: Moment | None = None, **env: str
    ) -> Command:
        command = self.start(*args, limits=limits, kill=kill, **env)
        command.wait()
        return command

    def memory(self) -> int:
        """Bytes of address space."""
        return int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[0]) * 4096

    def answer(self) -> str:
        return self._process.stdout.readline()

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait(30)


def _serve() -> None:
    """For each order on stdin a child; its number and, at its end, its exit code on stdout."""
    import resnetctl
    from resnetctl.cli import app

    modules = [m.name for m in pkgutil.walk_packages(resnetctl.__path__, "resnetctl.") if "__main__" not in m.name]
    for name in (*modules, "rich.progress", "torch.distributed.launcher.api"):
        importlib.import_module(name)
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            _obey(json.loads(line), app.run)
        print(pid, flush=True)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _obey(order: dict[str, Any], run: Any) -> None:
    os.setsid()
    for n, name in enumerate(("/dev/null", order["out"], order["err"])):
        fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(fd, n)
    os.environ.update(order["env"])
    for name, most in order["limits"].items():
        resource.setrlimit(getattr(resource, name), (most, most))
    os.chdir(order["cwd"])
    if order["kill"]:
        kill_before(tuple(order["kill"]))
    code: Any = 70
    try:
        sys.argv = ["resnetctl", *order["args"]]
        code = run(order["args"])
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 70)


if __name__ == "__main__":
    _serve()
