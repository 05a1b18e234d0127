import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pexpect
import pytest

import resnetctl
from resnetctl.cli import app, console
from resnetctl.errors import DataError

COMMANDS = ("prepare", "verify", "train", "eval", "predict", "recipe", "info", "completion")


def test_help_names_every_command(cli):
    done = cli("--help")
    assert done.returncode == 0
    assert done.stderr == ""
    for command in COMMANDS:
        assert f"\n  {command} " in done.stdout


@pytest.mark.parametrize("command", [*COMMANDS, "recipe list", "recipe show", "recipe new", "recipe diff"])
def test_every_command_has_help_with_the_common_options(cli, command):
    for flag in ("--help", "-h"):
        done = cli(*command.split(), flag)
        assert done.returncode == 0
        for option in ("--quiet", "--verbose", "--help"):
            assert option in done.stdout


def test_version(cli):
    assert cli("--version").stdout == f"resnetctl {resnetctl.__version__}\n"


def test_nothing_given_shows_the_help(cli):
    done = cli()
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == cli("--help").stdout


@pytest.mark.parametrize("args", [["-q", "train"], ["train", "-q"], ["train", "--quiet", "--verbose"]])
def test_switches_stand_before_or_after_the_command(cli, args):
    done = cli(*args, "--data", "nowhere")
    assert done.returncode == 3
    assert "nowhere" in done.stderr


def run_in_process(monkeypatch, exception: BaseException) -> int:
    """One run of a command that raises."""

    def broken(*args: object, **kwargs: object) -> None:
        raise exception

    monkeypatch.setattr("resnetctl.hardware.accelerators", broken)
    return app.run(["info"])


def test_our_errors_have_hint_and_exit_code(monkeypatch, capsys):
    assert run_in_process(monkeypatch, DataError("class [bold]red[/] is empty", hint="look into /data/[x]")) == 3
    assert capsys.readouterr().err == "error: class [bold]red[/] is empty\n\nhint: look into /data/[x]\n"


def test_a_bug_keeps_its_traceback(monkeypatch):
    with pytest.raises(ZeroDivisionError):
        run_in_process(monkeypatch, ZeroDivisionError())


def test_ctrl_c(monkeypatch, capsys):
    assert run_in_process(monkeypatch, KeyboardInterrupt()) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_an_operating_system_error_that_is_a_bug_keeps_its_traceback(monkeypatch):
    with pytest.raises(FileNotFoundError):
        run_in_process(monkeypatch, FileNotFoundError(2, "No such file", "somewhere"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_full_disk(tmp_path):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "resnetctl", "completion", "bash"], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 1
    assert done.stderr.startswith("error: No space left on device\n\nhint: ")
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_no_permission(cli, tmp_path):
    (tmp_path / "closed").mkdir(mode=0o500)
    done = cli("prepare", "--source", "sample", "--data", tmp_path / "closed" / "data")
    assert done.returncode in (1, 3)
    assert "hint: " in done.stderr


def test_permission_error_names_the_place(monkeypatch, capsys):
    assert run_in_process(monkeypatch, PermissionError(13, "Permission denied", "/data/\x1b[31mx")) == 1
    assert capsys.readouterr().err.startswith("error: /data/\\x1b[31mx: Permission denied\n\nhint: ")


def test_a_closed_pipe_is_no_error(tmp_path):
    """`resnetctl … | head -1`."""
    command = f"'{sys.executable}' -m resnetctl recipe show small | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=tmp_path)
    assert done.stderr == ""
    assert done.stdout in ("0\n", "1\n")


def test_sigterm_ends_a_command(tmp_path):
    """It waits for a file that nobody writes."""
    os.mkfifo(tmp_path / "mine.toml")
    child = subprocess.Popen([sys.executable, "-m", "resnetctl", "recipe", "show", "mine.toml"], cwd=tmp_path)
    with (tmp_path / "mine.toml").open("wb"):  # which waits for the reader
        child.terminate()
        assert child.wait() == -signal.SIGTERM


# --- the console


@pytest.fixture(autouse=True)
def fresh_console():
    yield
    console.configure(quiet=False, verbose=False)


def test_quiet_and_verbose(capsys):
    for quiet, verbose, expected in (
        (False, False, "n\nwarning: w\n"),
        (True, False, "warning: w\n"),
        (False, True, "n\nv\nwarning: w\n"),
    ):
        console.configure(quiet=quiet, verbose=verbose)
        console.notice("n")
        console.verbose("v")
        console.warn("w")
        captured = capsys.readouterr()
        assert captured.err == expected
        assert captured.out == ""


def test_table_when_piped(capsys):
    console.table(("class", "images"), [("cat [bold]", 5), ("a\x1b[0m", 12345)], title="Train")
    assert capsys.readouterr().out == "Train\nclass       images\ncat [bold]       5\na\\x1b[0m     12345\n"


def test_long_lines_are_not_broken_when_piped(capsys):
    console.notice("word " * 100)
    console.table(("a",), [("word " * 100 + "end",)])
    captured = capsys.readouterr()
    assert len(captured.err.splitlines()) == 1
    assert len(captured.out.splitlines()) == 2


def test_json_has_no_nan(capsys):
    console.print_document("train", {"loss": float("nan"), "rates": [1.5, float("inf")], "name": "\udcff", "n": 3})
    assert json.loads(capsys.readouterr().out) == {
        "kind": "train",
        "version": 1,
        "loss": None,
        "rates": [1.5, None],
        "name": "\udcff",
        "n": 3,
    }


def test_progress_in_a_log_file(capsys, monkeypatch):
    monkeypatch.setenv("RESNETCTL_PROGRESS_SECONDS", "0")
    with console.progress() as report:
        report("reading \x1b[1mtrain.tar", 0, 4000)
        report("reading \x1b[1mtrain.tar", 1000, 4000)
        report("reading \x1b[1mtrain.tar", 4000, 4000)
        report("checking", 7, None)
    captured = capsys.readouterr()
    assert captured.out == ""
    begin, quarter, end, checking = captured.err.splitlines()
    assert begin.startswith("reading \\x1b[1mtrain.tar: 0/4,000, ")
    assert quarter.startswith("reading \\x1b[1mtrain.tar: 1,000/4,000, ")
    assert quarter.endswith(" left")
    assert end.startswith("reading \\x1b[1mtrain.tar: 4,000/4,000, ")
    assert checking.startswith("checking: 7, ")


def test_progress_is_silent_with_quiet_and_ten_seconds_apart(capsys, monkeypatch):
    monkeypatch.setenv("RESNETCTL_PROGRESS_SECONDS", "soon")
    assert console.progress_seconds() == 10
    with console.progress() as report:
        for done in range(1000):
            report("reading", done, 1000)
    assert len(capsys.readouterr().err.splitlines()) == 1
    console.configure(quiet=True)
    with console.progress() as report:
        report("reading", 5, 10)
    assert capsys.readouterr().err == ""


def test_progress_on_a_terminal_leaves_stdout_alone(tmp_path):
    pexpect = pytest.importorskip("pexpect")
    program = tmp_path / "program.py"
    program.write_text(
        "from resnetctl.cli import console\n"
        "with console.progress() as report:\n"
        "    for i in range(5):\n"
        "        report('reading [bold]x', i + 1, 5)\n"
        "        print('result', i)\n"
        "    console.warn('odd')\n"
    )
    child = pexpect.spawn(
        "/bin/sh", ["-c", f"'{sys.executable}' '{program}' > '{tmp_path}/out'"], encoding="utf-8", timeout=300
    )
    shown = child.read()
    child.wait()
    assert (tmp_path / "out").read_text().splitlines() == [f"result {i}" for i in range(5)]
    assert "reading [bold]x" in shown
    assert "5/5" in shown
    assert "warning: odd" in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)


def test_no_color(tmp_path):
    pexpect = pytest.importorskip("pexpect")

    def shown(**env: str) -> str:
        env = {**os.environ, "TERM": "xterm-256color", **env}
        text: str = pexpect.run(f"'{sys.executable}' -m resnetctl trian", env=env, encoding="utf-8", timeout=300)
        return text

    assert "\x1b[1;31merror:" in shown()
    assert "\x1b[3" not in shown(NO_COLOR="1")
    assert "1;31" not in shown(NO_COLOR="1")


@pytest.mark.parametrize(("columns", "left_out"), [(100, ""), (40, "loss"), (30, "loss, images")])
def test_a_narrow_terminal_loses_whole_columns_and_breaks_no_word(columns, left_out):
    code = (
        "from resnetctl.cli import console\n"
        "console.table(('model', 'state', 'loss', 'images'), [('first, step 31', 'complete', '6.1562', '500')],"
        " spare=('loss', 'images'))\n"
    )
    env = {k: v for k, v in os.environ.items() if k != "COLUMNS"} | {"TERM": "xterm"}
    child = pexpect.spawn(sys.executable, ["-c", code], dimensions=(30, columns), env=env, encoding="utf-8", timeout=60)
    text = child.read()
    assert "first, step 31" in text
    assert "complete" in text
    assert (f"a wider terminal shows more: {left_out}" in text) == bool(left_out)
    assert ("6.1562" in text) == (not left_out)
