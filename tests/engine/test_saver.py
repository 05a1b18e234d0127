"""What stays of what was saved, one save at a time, and how a failure comes out."""

import os
import threading
import time
from pathlib import Path

import pytest
import torch

from resnetctl.engine import saver as saver_module
from resnetctl.engine.saver import Saver, prune
from resnetctl.errors import ResnetctlError
from resnetctl.runs.checkpoint import load_commit, save_checkpoint
from resnetctl.runs.commits import commits
from resnetctl.runs.folder import Run
from tests.fixtures.checkpoints import checkpoint, metadata


@pytest.fixture
def run(tmp_path) -> Run:
    run = Run(tmp_path / "run")
    run.checkpoints.mkdir(parents=True)
    return run


def state(step: int) -> dict[str, torch.Tensor]:
    return {"model.w": torch.full((4,), float(step))}


def save(run: Run, step: int):
    return save_checkpoint(run.checkpoints, checkpoint(step, state(step)))


def damage(commit) -> None:
    data = bytearray(commit.path.read_bytes())
    data[-1] ^= 1
    commit.path.write_bytes(data)


def steps(run: Run) -> list[int]:
    return [c.step for c in commits(run.checkpoints)]


@pytest.mark.parametrize(
    ("keep", "spared", "damaged", "left"),
    [
        (2, set(), (), [5, 4]),
        (3, set(), (), [5, 4, 3]),
        (2, {1}, (), [5, 4, 1]),  # the best, or the one that the run went on from
        (2, {1, 3}, (), [5, 4, 3, 1]),
        (2, set(), (4,), [5, 4, 3]),  # two that are whole, whatever lies between
        (2, set(), (4, 3), [5, 4, 2]),
        (2, set(), (4, 3, 2, 1), [5, 4]),
        (9, set(), (), [5, 4, 3, 2, 1]),
    ],
)
def test_what_stays(keep, spared, damaged, left, run):
    saved = {step: save(run, step) for step in (1, 2, 3, 4, 5)}
    for step in damaged:
        damage(saved[step])
    prune(commits(run.checkpoints), saved[5], keep, spared)
    assert steps(run) == left
    assert {p.stem for p in run.checkpoints.iterdir()} == {f"step-{step:08d}" for step in left}


def test_a_copy_is_saved_and_the_training_may_change_the_tensors_at_once(run):
    saver, tensors = Saver(run, 2), state(1)
    assert saver.start(tensors, metadata(1), set()) == []
    tensors["model.w"].fill_(-1)
    (saved,) = saver.wait()
    (commit,) = commits(run.checkpoints)
    assert load_commit(commit).tensors["model.w"].tolist() == [1.0] * 4
    assert (saved.step, saved.path, saved.bytes) == (1, commit.path, commit.path.stat().st_size)


def test_the_time_of_the_last_save_and_of_all_is_told(run):
    saver, began = Saver(run, 2), time.perf_counter()
    assert (saver.commit, saver.seconds, saver.total_seconds) == (None, 0, 0)
    saver.start(state(1), metadata(1), set())
    (first,) = saver.start(state(2), metadata(2), set())
    (second,) = saver.wait()
    assert saver.seconds == second.seconds > 0
    assert saver.total_seconds == first.seconds + second.seconds <= time.perf_counter() - began


def test_the_memory_of_the_copy_is_used_again_while_the_shapes_stay(run, monkeypatch):
    """And it is contiguous, so that the thread has only to write it."""
    real, seen = saver_module.save_checkpoint, []

    def look(folder, copied):
        seen.append(copied.tensors)
        assert all(t.is_contiguous() for t in copied.tensors.values())
        return real(folder, copied)

    monkeypatch.setattr(saver_module, "save_checkpoint", look)
    saver = Saver(run, 9)
    for step, width in ((1, 3), (2, 3), (3, 5)):
        conv = torch.full((2, 3, width, width), float(step)).to(memory_format=torch.channels_last)
        saver.start(state(step) | {"model.conv": conv}, metadata(step), set())
        saver.wait()
        found = load_commit(commits(run.checkpoints)[0]).tensors["model.conv"]
        assert found.tolist() == conv.tolist()
    places = [{k: t.data_ptr() for k, t in tensors.items()} for tensors in seen]
    assert places[0] == places[1]
    assert places[1]["model.conv"] != places[2]["model.conv"]


def test_a_tensor_that_is_gone_is_not_saved_again(run):
    saver = Saver(run, 9)
    saver.start(state(1) | {"ema.w": torch.ones(2)}, metadata(1), set())
    saver.start(state(2), metadata(2), set())
    saver.wait()
    assert [sorted(load_commit(c).tensors) for c in commits(run.checkpoints)] == [["model.w"], ["ema.w", "model.w"]]


def test_the_metrics_are_on_the_disk_before_the_checkpoint_that_goes_on_after_them(run, monkeypatch):
    run.log({"kind": "train", "step": 1})
    synced, real = [], os.fsync

    def see(fd: int) -> None:
        synced.append(Path(f"/proc/self/fd/{fd}").readlink().name)
        real(fd)

    monkeypatch.setattr(os, "fsync", see)
    saver = Saver(run, 2)
    saver.start(state(1), metadata(1), set())
    saver.wait()
    assert synced[0] == run.metrics.name
    assert any("step-00000001.safetensors" in name for name in synced[1:])


def test_old_ones_go_once_the_new_one_is_committed_and_the_spared_stay(run):
    saver = Saver(run, 1)
    for step in (1, 2, 3, 4):
        saver.start(state(step), metadata(step), {1})
    saver.wait()
    assert steps(run) == [4, 3, 1]
    assert saver.commit == commits(run.checkpoints)[0]


def test_one_save_at_a_time_and_nothing_waits_for_it_but_the_next(run, monkeypatch):
    go_on, real, at_work = threading.Event(), saver_module.save_checkpoint, []

    def slow(*args):
        at_work.append(threading.current_thread())
        assert go_on.wait(30)
        return real(*args)

    monkeypatch.setattr(saver_module, "save_checkpoint", slow)
    saver = Saver(run, 2)
    assert saver.start(state(1), metadata(1), set()) == []
    assert saver.poll() == []  # the training goes on
    assert saver.is_busy
    threading.Timer(0.2, go_on.set).start()
    (first,) = saver.start(state(2), metadata(2), set())
    assert first.step == 1
    (second,) = saver.wait()
    assert second.step == 2
    assert not saver.is_busy
    assert [(thread.name, thread.daemon) for thread in at_work] == [("saver", True)] * 2


def test_a_failure_comes_out_once_at_the_next_call_and_names_what_is_whole(run):
    saver = Saver(run, 2)
    (run.checkpoints / "step-00000001.json").mkdir()
    saver.start(state(1), metadata(1), set())
    with pytest.raises(ResnetctlError, match=r"\(none was saved before\)"):
        saver.wait()
    (run.checkpoints / "step-00000001.json").rmdir()
    save(run, 1)
    (run.checkpoints / "step-00000002.json").mkdir()  # the record cannot be written there
    saver.start(state(2), metadata(2), set())
    with pytest.raises(
        ResnetctlError, match=r"cannot save a checkpoint .* \(the checkpoint of step 1 is intact\)"
    ) as e:
        saver.wait()
    assert "--resume" in e.value.hint
    assert saver.wait() == []
    assert steps(run) == [1]


def test_a_step_that_was_saved_is_not_written_again(run):
    before = save(run, 3)
    stamp = before.path.stat().st_mtime_ns
    saver = Saver(run, 2)
    assert saver.start(state(4), metadata(3), set()) == []
    assert saver.wait() == []
    assert saver.commit == before
    assert before.path.stat().st_mtime_ns == stamp
