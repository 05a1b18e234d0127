"""Fault 28: a process that is killed, at random moments and at each step of a save, goes on to the same bits."""

import random
import signal
import time

import pytest

from tests.reliability.conftest import OPTIONS, assert_same, left, steps

# every moment of the fourth save at which it could end; the third has nothing to delete yet
SAVE_STEPS = {
    "created": ("chmod *.step-00000008.safetensors.*", 1),
    "half written": ("write *.step-00000008.safetensors.*", 60),
    "written": ("fsync *.step-00000008.safetensors.*", 1),
    "synced": ("rename *step-00000008.safetensors", 1),
    "renamed": ("fsync */checkpoints", 7),
    "record created": ("chmod *.step-00000008.json.*", 1),
    "record written": ("fsync *.step-00000008.json.*", 1),
    "record synced": ("rename *step-00000008.json", 1),
    "record renamed": ("fsync */checkpoints", 8),
    "committed": ("remove *step-00000004.json", 2),
    "half deleted": ("remove *step-00000004.safetensors", 1),
}
QUICK = ("half written", "renamed", "record created")


def resume_until_done(zygote, folder, name, args=("--resume",), **env):
    done = zygote.run("train", *args, "--runs", folder, RESNETCTL_TRACE=str(folder / "trace"), **env)
    assert done.returncode == 0, done.err
    return left(folder / name, folder / "trace")


def killed_again_and_again(zygote, folder, options, kills, longest, seed):
    """Start a run and kill it at random moments; each time it must go on from the last commit."""
    moments = random.Random(seed)
    args = (*options, "--name", "run")
    trace = folder / "trace"
    trace.touch()
    for n in range(kills):
        before, lines = steps(folder / "run"), len(trace.read_text().splitlines())
        command = zygote.start("train", *args, "--runs", folder, RESNETCTL_TRACE=str(trace))
        if n == 0:
            command.until((folder / "run" / "recipe.toml").exists)
        time.sleep(moments.uniform(0, longest))
        command.send(signal.SIGKILL)
        assert command.wait() in (-signal.SIGKILL, 0), command.err
        again = trace.read_text().splitlines()[lines:]
        if again:
            assert int(again[0].split()[1]) == (before[-1] if before else 0)  # no step that was saved is done again
        args = ("--resume",)
    return resume_until_done(zygote, folder, "run")


def test_five_random_kills(zygote, whole, tmp_path):
    assert_same(whole, killed_again_and_again(zygote, tmp_path, OPTIONS, 5, 2.5, seed=time.time_ns()))


@pytest.mark.slow
def test_fifty_random_kills(zygote, tmp_path):
    options = [*OPTIONS, "--epochs", "150"]  # two minutes
    folders = [tmp_path / "whole", tmp_path / "killed"]
    for folder in folders:
        folder.mkdir()
    uninterrupted = resume_until_done(zygote, folders[0], "run", (*options, "--name", "run"))
    assert_same(uninterrupted, killed_again_and_again(zygote, folders[1], options, 50, 5.0, seed=time.time_ns()))


@pytest.mark.parametrize("moment", [m if m in QUICK else pytest.param(m, marks=pytest.mark.slow) for m in SAVE_STEPS])
def test_a_kill_at_each_step_of_a_save(moment, zygote, whole, tmp_path):
    killed = zygote.run(
        *("train", *OPTIONS, "--runs", tmp_path, "--name", "run"),
        kill=SAVE_STEPS[moment],
        RESNETCTL_TRACE=str(tmp_path / "trace"),
    )
    assert killed.returncode == -signal.SIGKILL
    committed = steps(tmp_path / "run")
    lines = len((tmp_path / "trace").read_text().splitlines())
    final = resume_until_done(zygote, tmp_path, "run")
    assert f"step {committed[-1]} " in (tmp_path / "trace").read_text().splitlines()[lines]
    assert_same(whole, final)
    assert not [p for p in (tmp_path / "run" / "checkpoints").iterdir() if "tmp" in p.name]
