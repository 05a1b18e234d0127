"""`resnetctl checkpoint`: sound, damaged and unfinished files, for people and for programs."""

import json

import pytest

from resnetctl.runs.checkpoint import save_checkpoint
from resnetctl.runs.folder import create_run
from resnetctl.runs.metadata import Evaluation
from tests.fixtures.checkpoints import checkpoint


@pytest.fixture
def run(tmp_path):
    """Five files: of the steps 31 and 62 the first is the better one; 40 is damaged, 50 unfinished, 20 set aside."""
    run = create_run(tmp_path / "runs", "run", "small")
    history = []
    for step, top1 in ((20, None), (31, 55.5), (40, None), (50, None), (62, 50.25)):
        history += [(step, top1)] if top1 else []
        measured = tuple(
            Evaluation(step=s, epoch=s / 31, top1=best, top5=90.0, loss=1.0, images=23) for s, best in history
        )
        save_checkpoint(run.checkpoints, checkpoint(step, steps=62, epoch=step / 31, history=measured))
    path = run.checkpoints / "step-00000040.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    (run.checkpoints / "step-00000050.json").unlink()
    (run.checkpoints / "step-00000020.json").unlink()
    (run.checkpoints / "step-00000020.safetensors").rename(run.checkpoints / "step-00000020.damaged")
    (run.checkpoints / "step-00000099.safetensors").symlink_to(path)
    return run


def test_list_is_quick_and_reads_no_contents(run, cli):
    done = cli("checkpoint", "list")
    assert done.returncode == 0, done.stderr
    head, names, *rows = done.stdout.splitlines()
    assert head == "runs/run/checkpoints, recipe small"
    assert names.split() == ["step", "epoch", "top-1", "top-5", "size", "state"]
    states = {row.split()[0]: row for row in rows}
    assert list(states) == ["62", "50", "40", "31", "20"]
    assert "50.25 %" in states["62"]
    assert states["31"].endswith("ok, best")
    assert states["40"].endswith("ok")  # only verify can know
    assert "unfinished: it was never committed" in states["50"]
    assert "set aside by a resume as step-00000020.damaged" in states["20"]


def test_verify_finds_what_is_damaged(run, cli):
    done = cli("checkpoint", "verify", "run", "--json")
    assert done.returncode == 1
    assert "3 of 5 checkpoints cannot be used" in done.stderr
    found = {f["step"]: f for f in json.loads(done.stdout)["checkpoints"]}
    assert {step for step, f in found.items() if f["ok"]} == {62, 31}
    assert found[40]["problem"] == "damaged: its sha256 is not the committed one"
    assert found[31]["is_best"]
    assert (found[62]["top1"], found[62]["recipe"], found[62]["epoch"]) == (50.25, "small", 2.0)
    for path in [*run.checkpoints.glob("*00040*"), *run.checkpoints.glob("*00050*"), *run.checkpoints.glob("*00020*")]:
        path.unlink()
    assert cli("checkpoint", "verify").returncode == 0


def test_show_tells_the_newest_or_a_file(run, cli):
    done = cli("checkpoint", "show")
    assert done.returncode == 0, done.stderr
    facts = dict(line.split("  ", 1) for line in done.stdout.splitlines())
    facts = {k: v.strip() for k, v in facts.items()}
    assert facts["step"] == "62 of 62"
    assert facts["best top-1"] == "55.50 % at step 31"
    assert facts["threads"] == "2"
    assert len(facts["sha256"]) == 64
    document = json.loads(cli("checkpoint", "show", run.checkpoints / "step-00000031.safetensors", "--json").stdout)
    assert document["metadata"]["history"][-1]["top1"] == 55.5


def test_a_file_that_holds_another_step_than_its_name_says(run, cli):
    (run.checkpoints / "step-00000031.safetensors").rename(run.checkpoints / "step-00000032.safetensors")
    found = json.loads(cli("checkpoint", "list", "run", "--json").stdout)["checkpoints"]
    assert next(f for f in found if f["step"] == 32)["problem"] == "damaged: it holds step 31"


@pytest.mark.parametrize("which", ["nothing", "no/step-00000001.safetensors"])
@pytest.mark.parametrize("command", ["list", "show", "verify"])
def test_what_is_not_there_is_an_error(which, command, cli):
    done = cli("checkpoint", command, which)
    assert done.returncode == 1
    assert "error: there is no" in done.stderr
    assert done.stdout == ""


def test_a_run_without_a_checkpoint(tmp_path, cli):
    create_run(tmp_path / "runs", "run", "small")
    done = cli("checkpoint", "list")
    assert done.returncode == 1
    assert "runs/run has no checkpoint yet" in done.stderr
