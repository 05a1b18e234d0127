"""Makes the pictures of the README from a real run, in this folder.

python -m tests.pictures     # needs tmux and chromium; a few minutes on 2 cores
"""

from __future__ import annotations

import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.text import Text

HERE = Path(__file__).parent
COLUMNS, ROWS = 100, 60
COMMANDS = [
    "resnetctl prepare --source sample",
    "resnetctl train --epochs 10 --name first",
    "resnetctl eval",
]
PROMPT = "\x1b[1;32m$\x1b[0m"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (HERE / "terminal.svg").write_text(_svg(_shown(COMMANDS, place)), encoding="utf-8")
        _report(place)


def _shown(commands: list[str], place: Path) -> str:
    """What stands on the screen of a terminal when `commands` are done, colours as escape sequences."""
    name = f"pictures-{time.monotonic_ns()}"
    tmux = ["tmux", "-L", name, "-f", "/dev/null"]
    lines = [f"cd {shlex.quote(str(place))}", f'resnetctl() {{ {shlex.quote(sys.executable)} -m resnetctl "$@"; }}']
    for command in commands:
        lines += [f"printf '%s\\n' {shlex.quote(f'{PROMPT} {command}')}", command, "echo"]
    script = place / "script.sh"
    script.write_text("\n".join([*lines, f"tmux -L {name} wait-for -S done", "sleep 1000\n"]))
    subprocess.run([*tmux, "new-session", "-d", "-x", str(COLUMNS), "-y", str(ROWS), f"bash {script}"], check=True)
    try:
        subprocess.run([*tmux, "wait-for", "done"], check=True)
        screen = subprocess.run([*tmux, "capture-pane", "-e", "-p"], check=True, capture_output=True)
    finally:
        subprocess.run([*tmux, "kill-server"], check=True)
    return screen.stdout.decode().rstrip()


def _svg(screen: str) -> str:
    console = Console(record=True, width=COLUMNS, file=open("/dev/null", "w"), force_terminal=True)  # noqa: SIM115
    console.print(Text.from_ansi(screen), end="")
    return console.export_svg(title="resnetctl", clear=False)


def _report(place: Path) -> None:
    """report.png: the top of the run's page, as a browser shows it."""
    program = [sys.executable, "-m", "resnetctl"]
    subprocess.run([*program, "report", "first", "--out", "report.html"], cwd=place, check=True)
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1100,1750"]
    picture = HERE / "report.png"
    page = (place / "report.html").as_uri()
    subprocess.run(["chromium", *options, f"--screenshot={picture}", page], check=True, capture_output=True)


if __name__ == "__main__":
    main()
