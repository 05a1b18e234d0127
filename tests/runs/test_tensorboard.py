"""Events for TensorBoard, read by TensorBoard's own reader."""

import json
import sys

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from resnetctl.errors import ResnetctlError
from resnetctl.runs.folder import create_run
from resnetctl.runs.tensorboard import EventFile, check_tensorboard
from tests.fixtures.runs import lines


@pytest.fixture
def run(tmp_path):
    return create_run(tmp_path, "first", "small")


def read(run):
    events = EventAccumulator(str(run.events))
    events.Reload()
    return events


def scalars(events):
    return {tag: [(e.step, round(e.value, 4)) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def log(run, events, some):
    for line in some:
        run.log(line)
        events.log(line)


def test_every_line_is_an_event(run):
    log(run, EventFile(run), lines())
    found = scalars(read(run))
    assert sorted(found) == [
        *("train/images_per_second", "train/loss", "train/lr", "train/waiting"),
        *("val/loss", "val/top1", "val/top5"),
    ]
    assert found["train/loss"] == [(s, round(3 - s / 15, 4)) for s in (5, 10, 15, 20, 25, 30)]
    assert found["val/top1"] == [(10, 20.0), (20, 60.0), (30, 50.0)]
    assert read(run).Scalars("val/top1")[0].wall_time == 1e9 + 11


def test_what_happened_before_is_in_it(run):
    """A run that asks for events only when it goes on."""
    for line in lines(10):
        run.log(line)
    EventFile(run)
    assert scalars(read(run))["train/loss"] == [(5, round(3 - 5 / 15, 4)), (10, round(3 - 10 / 15, 4))]


def test_a_run_that_goes_on_from_an_earlier_step_has_each_step_once(run):
    log(run, EventFile(run), lines(20))
    run.trim_metrics(10, evaluated=True)
    log(run, EventFile(run), [line for line in lines(20) if line["step"] > 10])
    EventFile(run)
    assert [path.stat().st_size > 0 for path in sorted(run.events.iterdir())] == [False, True]
    assert [step for step, _ in scalars(read(run))["train/loss"]] == [5, 10, 15, 20]
    assert [step for step, _ in scalars(read(run))["val/top1"]] == [10, 20]


def test_a_tensorboard_that_looks_on_sees_each_step_once(run):
    log(run, EventFile(run), lines(20))
    looking = read(run)
    run.trim_metrics(10, evaluated=True)
    log(run, EventFile(run), [line for line in lines(30) if line["step"] > 10])
    looking.Reload()
    assert [step for step, _ in scalars(looking)["train/loss"]] == [5, 10, 15, 20, 25, 30]


def test_half_a_line_and_what_is_no_number_are_left_out(run):
    run.log({"kind": "train", "step": 5, "loss": 1.0, "lr": None, "time": 3.0})
    run.log({"kind": "eval", "step": 5, "top1": 10.0, "loss": float("nan")})
    run.log({"kind": "other", "step": 5})
    with run.metrics.open("a") as file:
        file.write(json.dumps({"kind": "train", "step": 10, "loss": 2.0})[:20])
    EventFile(run)
    assert scalars(read(run)) == {"train/loss": [(5, 1.0)], "val/top1": [(5, 10.0)]}


def test_files_of_other_programs_stay(run):
    run.events.mkdir()
    (run.events / "events.out.tfevents.17.host").write_bytes(b"")
    EventFile(run)
    assert (run.events / "events.out.tfevents.17.host").exists()


def test_without_the_package(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "tensorboard"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(ResnetctlError, match="needs the package tensorboard") as raised:
        check_tensorboard()
    assert "pip install 'resnetctl[tensorboard]'" in raised.value.hint
