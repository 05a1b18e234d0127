"""What happens before a run's first step, and after its last: nothing is left behind, and what it says."""

import json
import os
import signal
import socket
from dataclasses import replace

import pytest

from resnetctl.runs.checkpoint import Checkpoint, load_file, save_checkpoint
from resnetctl.runs.commits import commits
from tests.reliability.conftest import OPTIONS, assert_same, steps
from tests.reliability.test_faults import killed_after, run, start
from tests.reliability.test_kills import resume_until_done


def everything(folder) -> dict[str, object]:
    """Every file below `folder` with its content, and where links lead."""
    return {
        str(p.relative_to(folder)): p.readlink() if p.is_symlink() else p.read_bytes() if p.is_file() else None
        for p in folder.rglob("*")
        if p.name != "trace"
    }


@pytest.fixture(scope="module")
def short(zygote, tmp_path_factory):
    """The folder of a run that was done after 6 of 17 steps, and is the latest."""
    folder = tmp_path_factory.mktemp("short")
    assert run(zygote, folder, *OPTIONS, "--name", "short", "--max-steps", "6").returncode == 0
    return folder


@pytest.fixture
def nobody() -> str:
    """A URL at which nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


def test_weights_that_cannot_be_had_leave_no_run_and_the_latest_as_it_was(zygote, short, nobody, tmp_path):
    before = everything(short)
    env = {"RESNETCTL_WEIGHTS_URL": nobody, "TORCH_HOME": str(tmp_path)}
    for options in (("--set", "model.weights=imagenet1k-v1"), ("--set", "model.weights=nonsense")):
        done = run(zygote, short, *OPTIONS, *options, "--name", "next", **env)
        assert done.returncode in (1, 2), done.err
        assert done.err.count("error:") == 1
        assert everything(short) == before
    told = run(zygote, short, *OPTIONS, "--set", "model.weights=imagenet1k-v1", **env).err
    assert told.index(f"downloading {nobody}") < told.index("cannot download")


def test_a_download_is_told_before_it_begins(zygote, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:  # takes the connection and never answers
        env = {"RESNETCTL_WEIGHTS_URL": f"http://127.0.0.1:{server.getsockname()[1]}", "TORCH_HOME": str(tmp_path)}
        command = start(zygote, tmp_path, *OPTIONS, "--set", "model.weights=imagenet1k-v1", "--name", "run", **env)
        command.until(lambda: "downloading http" in command.err)
        command.send(signal.SIGTERM)  # there is nothing to finish or to save
        assert command.wait() == 143
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "latest").is_symlink()


def test_what_others_put_into_the_folder_of_a_run_that_failed_stays(zygote, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        env = {"RESNETCTL_WEIGHTS_URL": f"http://127.0.0.1:{server.getsockname()[1]}", "TORCH_HOME": str(tmp_path)}
        command = start(zygote, tmp_path, *OPTIONS, "--set", "model.weights=imagenet1k-v1", "--name", "run", **env)
        command.until(lambda: "downloading http" in command.err)
        (tmp_path / "run" / "notes.txt").write_text("mine")
        command.send(signal.SIGINT)
        assert command.wait() == 130
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["notes.txt"]


def test_a_run_killed_before_its_first_save_begins_again(zygote, whole, tmp_path):
    killed = run(zygote, tmp_path, *OPTIONS, "--name", "run", kill=("chmod *.safetensors.*", 1))
    assert killed.returncode == -signal.SIGKILL
    assert steps(tmp_path / "run") == []
    assert (tmp_path / "latest").readlink().name == "run"
    assert_same(whole, resume_until_done(zygote, tmp_path, "run"))


def test_a_complete_run_says_so_and_how_to_go_on(zygote, short):
    before = everything(short)
    done = run(zygote, short, "--resume")
    assert done.returncode == 0
    assert "the run short is complete: all 6 steps were done before, top-1 " in done.err
    again = next(line for line in done.err.splitlines() if line.startswith("to continue to step 17: "))
    assert "resnetctl train --resume short" in again
    assert "--set train.max_steps=0" in again
    assert "goes on" not in done.err
    assert everything(short) == before


def test_a_complete_run_can_be_made_longer(zygote, tmp_path):
    assert run(zygote, tmp_path, *OPTIONS, "--name", "run", "--epochs", "1").returncode == 0
    done = run(zygote, tmp_path, "--resume", "run")
    assert "train longer: a new run with more --epochs" in done.err
    longer = run(zygote, tmp_path, "--resume", "run", "--allow-changes", "--epochs", "2")
    assert longer.returncode == 0, longer.err
    assert "train.epochs: 1 → 2" in longer.err
    assert steps(tmp_path / "run")[-1] == 11


def test_another_environment_is_a_warning(zygote, tmp_path):
    """As if it had been written on another machine; the file is made anew, with its record."""
    folder = killed_after(zygote, tmp_path) / "checkpoints"
    newest = commits(folder)[0]
    known = load_file(newest.path)
    there = {**known.metadata.environment, "threads": 64, "torch": "2.10.0", "instruction set": "another"}
    save_checkpoint(folder, Checkpoint(known.tensors, replace(known.metadata, environment=there)))
    done = run(zygote, tmp_path, "--resume")
    assert done.returncode == 0, done.err
    (warning,) = [line for line in done.err.splitlines() if line.startswith("warning:")]
    assert "not bit-exact: the checkpoint was written with another" in warning
    assert "threads (64 → 1)" in warning
    assert "torch (2.10.0 → " in warning
    assert "instruction set (another → " in warning
    assert "device" not in warning


@pytest.mark.parametrize("name", ["metrics.jsonl", "recipe.toml", ".lock", "checkpoints"])
def test_nothing_is_written_through_links_in_a_runs_folder(name, zygote, tmp_path):
    folder = killed_after(zygote, tmp_path)
    outside = tmp_path / "outside"
    (folder / name).replace(outside)
    (folder / name).symlink_to(outside)
    before = everything(tmp_path)
    done = run(zygote, tmp_path, "--resume", "run")
    assert done.returncode == 1
    assert f"{name} is a symbolic link" in done.err
    assert everything(tmp_path) == before


def test_a_checkpoint_that_is_a_link_is_not_gone_on_with(zygote, tmp_path):
    folder = killed_after(zygote, tmp_path) / "checkpoints"
    (folder / "step-00000099.safetensors").symlink_to(commits(folder)[0].path)
    done = run(zygote, tmp_path, "--resume", folder / "step-00000099.safetensors")
    assert done.returncode == 1
    assert "step-00000099.safetensors is a link" in done.err
    listed = json.loads(zygote.run("checkpoint", "list", "run", "--runs", tmp_path, "--json").out)
    assert 99 not in [found["step"] for found in listed["checkpoints"]]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_is_answered_at_once_and_a_second_one_has_its_exit_code(number, code, zygote, broken, tmp_path):
    """The step that waits for an image from a pipe never ends."""
    root, images = broken
    for path in images[:20]:
        path.unlink()
        os.mkfifo(path)
    options = (*OPTIONS, "--name", "run", "--data", root, "--set", "data.timeout_seconds=300")
    command = start(zygote, tmp_path, *options)
    command.until((tmp_path / "latest").is_symlink)
    command.send(number)
    command.until(lambda: "finishing the step, then saving" in command.err, seconds=10)
    assert "again quits at once" in command.err or "a second signal quits at once" in command.err
    command.send(number)
    assert command.wait() == code
    assert "Traceback" not in command.err
