import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.zygote import Zygote

# tests run side by side: a thread pool a process would be many threads a core, each waiting for the others by spinning
os.environ.setdefault("OMP_NUM_THREADS", "1")

Cli = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    """Run `resnetctl` as users do, in an empty folder, and see that no traceback reaches them.

    `env` adds to an environment without RESNETCTL_* and colour settings; a None in it removes a variable.
    """

    def run(
        *args: object,
        cwd: Path | None = None,
        env: Mapping[str, str | None] | None = None,
        timeout: float = 300,
        input: str | None = None,
        traceback_expected: bool = False,
    ) -> "subprocess.CompletedProcess[str]":
        ours = ("RESNETCTL_", "_RESNETCTL_")
        clean = {k: v for k, v in os.environ.items() if not k.startswith(ours) and k not in ("FORCE_COLOR", "COLUMNS")}
        merged = {k: v for k, v in {**clean, **(env or {})}.items() if v is not None}
        done = subprocess.run(
            [sys.executable, "-m", "resnetctl", *map(str, args)],
            cwd=cwd or tmp_path,
            env=merged,
            timeout=timeout,
            input=input,
            stdin=None if input is not None else subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        if not traceback_expected:
            assert "Traceback" not in done.stderr, done.stderr
        return done

    return run


@pytest.fixture(scope="session")
def zygote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    """Starts commands of `resnetctl` in no time, and kills them at a moment."""
    zygote = Zygote(tmp_path_factory.mktemp("zygote"))
    yield zygote
    zygote.close()
