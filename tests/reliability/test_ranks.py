"""Faults 38 to 40: killed ranks, killed launchers, and stops that all ranks agree on (gloo, on the CPU)."""

import contextlib
import json
import os
import random
import signal
import time
from pathlib import Path

import pytest

from tests.reliability.conftest import OPTIONS, assert_same, left, steps

TWO = (*OPTIONS, "--cpu-procs", "2")
THREE = (*OPTIONS, "--cpu-procs", "3")
FOUR = (*OPTIONS, "--cpu-procs", "4")


def ranks_of(launcher: int) -> dict[int, int]:
    """Rank to process of those that the launcher has started."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            environ = (stat.parent / "environ").read_bytes().split(b"\0") if parent == launcher else []
        except OSError:
            continue
        found |= {int(v[5:]): int(stat.parent.name) for v in environ if v.startswith(b"RANK=")}
    return found


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text() != ""  # a zombie has none
    except OSError:
        return False


def workers_of(rank: int) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{rank}/task/{rank}/children").read_text().split()]


def run(zygote, folder, *args, **env):
    return zygote.start("train", *args, "--runs", folder, RESNETCTL_TRACE=str(folder / "trace"), **env)


@pytest.fixture(scope="session")
def whole_two(zygote, tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    command = run(zygote, folder, *TWO, "--name", "whole")
    assert command.wait() == 0, command.err
    assert command.err.count("  top-1 ") == 3, command.err  # the first rank alone speaks
    return left(folder / "whole", folder / "trace")


def test_a_killed_rank_is_started_again_and_the_run_goes_on_to_the_same_bits(zygote, whole_two, tmp_path):
    command = run(zygote, tmp_path, *TWO, "--name", "run")
    command.until(lambda: len(steps(tmp_path / "run")) >= 2)
    os.kill(ranks_of(command.pid)[1], signal.SIGKILL)
    assert command.wait() == 0, command.err
    assert "rank 1 was killed by SIGKILL: restarting all ranks from the last checkpoint (1 of 3)" in command.err
    assert "Traceback" not in command.err
    assert_same(whole_two, left(tmp_path / "run", tmp_path / "trace"))


@pytest.mark.slow
def test_a_killed_launcher_leaves_no_orphans_and_there_is_one_writer(zygote, whole_two, cli, data, tmp_path):
    command = run(zygote, tmp_path, *TWO, "--name", "run")
    command.until(lambda: steps(tmp_path / "run"))
    ranks = ranks_of(command.pid)
    assert len(ranks) == 2
    refused = cli("train", "--resume", "run", "--data", data, "--runs", tmp_path)
    assert refused.returncode == 1
    assert "another resnetctl is training" in refused.stderr
    command.send(signal.SIGKILL)
    command.wait()
    end = time.monotonic() + 10
    while any(is_alive(pid) for pid in ranks.values()):
        assert time.monotonic() < end, "orphans"
        time.sleep(0.05)
    again = run(zygote, tmp_path, "--resume", "--cpu-procs", "2")
    assert again.wait() == 0, again.err
    assert_same(whole_two, left(tmp_path / "run", tmp_path / "trace"))


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)]
)
def test_all_ranks_agree_on_a_stop(number, code, zygote, whole_two, tmp_path):
    """Fault 40 too: world 2, stopped, and resumed at world 2."""
    command = run(zygote, tmp_path, *TWO, "--name", "run", "--json")
    command.until(lambda: steps(tmp_path / "run"))
    if number == signal.SIGTERM:  # as Slurm and systemd do: each process gets it, and the ranks from the launcher too
        for pid in ranks_of(command.pid).values():
            os.kill(pid, number)
    command.send(number)
    assert command.wait() == code, command.err
    assert "stopped after step" in command.err
    assert '"complete": false' in command.out
    assert "Traceback" not in command.err
    stopped = steps(tmp_path / "run")[-1]
    assert f"stopped after step {stopped} " in command.err
    again = run(zygote, tmp_path, "--resume", "--cpu-procs", "2")
    assert again.wait() == 0, again.err
    assert_same(whole_two, left(tmp_path / "run", tmp_path / "trace"))


@pytest.mark.slow
def test_four_ranks_stop_and_go_on_to_the_same_bits(zygote, tmp_path):
    """From three ranks on the order of gradient buckets would differ after a resume."""
    folders = [tmp_path / "whole", tmp_path / "stopped"]
    for folder in folders:
        folder.mkdir()
    whole = run(zygote, folders[0], *FOUR, "--name", "run")
    assert whole.wait() == 0, whole.err
    command = run(zygote, folders[1], *FOUR, "--name", "run")
    command.until(lambda: steps(folders[1] / "run"))
    command.send(signal.SIGTERM)
    assert command.wait() == 143, command.err
    assert steps(folders[1] / "run")[-1] < 17
    again = run(zygote, folders[1], "--resume", "--cpu-procs", "4")
    assert again.wait() == 0, again.err
    assert_same(left(folders[0] / "run", folders[0] / "trace"), left(folders[1] / "run", folders[1] / "trace"))


@pytest.mark.slow
def test_an_error_of_any_rank_is_shown_once_with_its_rank(zygote, tmp_path):
    command = run(zygote, tmp_path, *TWO, "--name", "run")
    command.until(lambda: steps(tmp_path / "run"))
    os.kill(workers_of(ranks_of(command.pid)[1])[0], signal.SIGKILL)
    assert command.wait() == 1
    assert command.err.count("error:") == 1, command.err
    assert "error: rank 1: a loader worker died" in command.err
    assert "Traceback" not in command.err


@pytest.mark.slow
def test_another_world_size_sees_the_same_samples_and_says_that_bits_differ(zygote, whole, whole_two, tmp_path):
    command = run(zygote, tmp_path, *TWO, "--name", "run", "--max-steps", "6")
    assert command.wait() == 0, command.err
    alone = run(zygote, tmp_path, "--resume", "--set", "train.max_steps=0")
    assert alone.wait() == 0, alone.err
    assert "not bit-exact" in alone.err
    assert "world size (2 → 1)" in alone.err
    seen = left(tmp_path / "run", tmp_path / "trace").samples
    assert by_step(seen) == by_step(whole.samples) == by_step(whole_two.samples)


def by_step(samples) -> dict[int, list]:
    """The samples of each step, those of the ranks one after the other."""
    joined: dict[int, list] = {}
    for (step, _, _), text in sorted(samples.items()):
        joined.setdefault(step, []).extend(json.loads(text.partition("samples ")[2]))
    return joined


@pytest.mark.slow
@pytest.mark.parametrize("options", [TWO, THREE], ids=["two", "three"])
def test_random_kills_of_ranks_and_launchers(options, zygote, tmp_path):
    options = (*options, "--epochs", "30")  # 175 steps: five times killed before the last one
    folders = [tmp_path / "whole", tmp_path / "killed"]
    for folder in folders:
        folder.mkdir()
    command = run(zygote, folders[0], *options, "--name", "run")
    assert command.wait() == 0, command.err
    moments = random.Random(time.time_ns())
    args = (*options, "--name", "run")
    for _ in range(5):
        before = steps(folders[1] / "run")
        if before and before[-1] == 175:
            break  # it was quicker than the kills
        command = run(zygote, folders[1], *args)
        command.until(lambda before=before: steps(folders[1] / "run") != before)
        for _ in range(moments.randrange(3)):
            ranks = list(ranks_of(command.pid).values())
            if ranks:  # there are none while they are started again
                with contextlib.suppress(ProcessLookupError):
                    os.kill(moments.choice(ranks), signal.SIGKILL)
            time.sleep(moments.uniform(0, 15))
        time.sleep(moments.uniform(0, 3))
        if command.is_running():
            command.send(signal.SIGKILL)
        command.wait()
        args = ("--resume", "--cpu-procs", options[options.index("--cpu-procs") + 1])
    command = run(zygote, folders[1], *args)
    assert command.wait() == 0, command.err
    assert_same(left(folders[0] / "run", folders[0] / "trace"), left(folders[1] / "run", folders[1] / "trace"))
