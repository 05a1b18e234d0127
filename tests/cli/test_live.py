"""The progress line on a real terminal."""

import shutil
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not shutil.which("tmux"), reason="needs tmux")


@pytest.fixture
def tmux(tmp_path: Path):
    def call(*args: str) -> str:
        line = ["tmux", "-S", str(tmp_path / "tmux"), "-f", "/dev/null", *args]
        return subprocess.run(line, check=True, capture_output=True, text=True).stdout

    yield call
    call("kill-server")


def screen(tmux: Callable[..., str], *, until: str) -> list[str]:
    end = time.monotonic() + 30
    while until not in (text := tmux("capture-pane", "-p")):
        assert time.monotonic() < end, text
        time.sleep(0.05)
    return [line for line in text.splitlines() if line.strip()]


def test_no_row_is_left_by_lines_drawn_before_the_new_width_is_known(tmux: Callable[..., str], tmp_path: Path) -> None:
    """Some terminals tell a program of a new size only after they have changed it."""
    script = tmp_path / "draw.py"
    script.write_text(
        textwrap.dedent("""
            import sys
            from resnetctl.cli.live import Field, Live
            line = Live(sys.stderr, lambda: 80)
            for i in range(3):
                line.draw([Field("x" * 70, 0)], now=True)
            line.close()
            print("DONE", flush=True)
            sys.stdin.read()
        """)
    )
    tmux("new-session", "-d", "-x", "40", "-y", "20", sys.executable, str(script))
    assert screen(tmux, until="DONE") == ["DONE"]
