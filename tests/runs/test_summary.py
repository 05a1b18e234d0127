"""A run at a glance: how far it came and whether it goes on."""

import os
from dataclasses import replace

import pytest

from resnetctl.files import folder_lock
from resnetctl.runs.folder import Run, create_run
from resnetctl.runs.summary import summaries, summarise
from tests.fixtures.runs import hold, make_run, recipe
from tests.process import start


@pytest.mark.parametrize(("steps", "state"), [(30, "complete"), (20, "stopped")])
def test_how_far_it_came(steps, state, tmp_path):
    summary = summarise(make_run(tmp_path, "run", steps=steps))
    assert summary.state == state
    assert summary.epoch == steps / 10
    assert summary.metrics.best.top1 == 60.0
    assert summary.last.step == steps
    assert summary.recipe == recipe()


def test_a_complete_run_has_all_its_epochs_though_the_last_batch_was_dropped(tmp_path, monkeypatch):
    monkeypatch.setattr("tests.fixtures.runs.STEPS", 29)  # 640 images, and a batch that did not fill
    summary = summarise(make_run(tmp_path, "run", steps=29))
    assert summary.epoch == 3
    assert summary.epoch_of(replace(summary.last, step=29, epoch=2.9)) == 3


def test_an_evaluation_keeps_its_epoch_when_the_run_has_gone_on(tmp_path):
    summary = summarise(make_run(tmp_path, "run", steps=25))
    assert (summary.epoch, summary.epoch_of(summary.last)) == (2.5, summary.last.epoch)


def test_a_run_that_max_steps_ends_is_complete(tmp_path):
    assert summarise(make_run(tmp_path, "run", steps=20, of=recipe(train__max_steps=20))).state == "complete"


def test_a_run_is_running_while_its_lock_is_held(tmp_path):
    run = make_run(tmp_path, "run", steps=20)
    holder = start(hold, run.folder)
    try:
        assert holder.stdout.readline() == "held\n"
        assert summarise(run).state == "running"
    finally:
        holder.kill()
        holder.communicate()
    assert summarise(run).state == "stopped"


def test_asking_takes_no_lock(tmp_path):
    run = make_run(tmp_path, "run")
    with folder_lock(run.folder, "training"):
        pass
    summarise(run)
    assert (run.folder / ".lock").read_bytes() == b""


def test_before_its_first_checkpoint_a_run_has_no_state(tmp_path):
    run = create_run(tmp_path, "run", "small")
    summary = summarise(run)
    assert (summary.state, summary.recipe, summary.metadata, summary.epoch, summary.last) == (
        None,
        None,
        None,
        0.0,
        None,
    )


def test_a_damaged_newest_checkpoint_is_passed_over(tmp_path):
    run = make_run(tmp_path, "run", steps=20)
    newer = run.checkpoints / "step-00000030.safetensors"
    newer.write_bytes(b"\0" * 100)
    newer.with_suffix(".json").write_text('{"step": 30, "size": 100, "sha256": "0"}')
    assert summarise(run).metadata.step == 20


def test_without_metrics_the_history_of_the_checkpoint_is_taken(tmp_path):
    run = make_run(tmp_path, "run")
    run.metrics.unlink()
    assert [e.top1 for e in summarise(run).metrics.evaluations] == [20.0, 60.0, 50.0]


def test_a_recipe_that_cannot_be_read_is_none(tmp_path):
    run = create_run(tmp_path, "run", "small")
    run.recipe.write_text("[model]\narch = 'resnet7'\n")
    assert summarise(run).recipe is None


def test_size_counts_files_and_follows_no_link(tmp_path):
    run = make_run(tmp_path, "run")
    before = summarise(run).size
    (run.folder / "notes").write_bytes(b"x" * 1000)
    (tmp_path / "big").write_bytes(b"x" * 100_000)
    (run.folder / "link").symlink_to(tmp_path / "big")
    assert summarise(run).size == before + 1000


def test_the_one_written_to_last_comes_first(tmp_path):
    for name, when in (("a", 100), ("b", 300), ("c", 200)):
        run = make_run(tmp_path, name)
        for path in run.folder.rglob("*"):
            os.utime(path, (when, when))
    assert [s.name for s in summaries(tmp_path)] == ["b", "c", "a"]


def test_no_folder_is_no_runs(tmp_path):
    assert summaries(tmp_path / "runs") == []
    assert Run(tmp_path / "runs").name == "runs"
