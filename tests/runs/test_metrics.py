"""metrics.jsonl read back: what is whole, and when in the run's own time."""

import json
import math

import pytest

from resnetctl.runs.metrics import Measured, Reading, read_metrics
from tests.fixtures.runs import lines


def written(path, entries):
    path.write_text("".join((e if isinstance(e, str) else json.dumps(e)) + "\n" for e in entries))
    return read_metrics(path, 64)


def test_both_kinds_are_read(tmp_path):
    metrics = written(tmp_path / "metrics.jsonl", lines())
    assert [r.step for r in metrics.readings] == [5, 10, 15, 20, 25, 30]
    assert [(e.step, e.top1) for e in metrics.evaluations] == [(10, 20.0), (20, 60.0), (30, 50.0)]
    assert metrics.readings[0] == Reading(
        step=5, epoch=0.5, loss=3 - 1 / 3, lr=0.1, images_per_second=640.0, waiting=0.25, time=1e9 + 5, worked=0.5
    )
    assert metrics.best.step == 20


def test_the_later_of_two_equal_evaluations_is_the_best(tmp_path):
    metrics = written(tmp_path / "metrics.jsonl", lines(top1=(50.0, 60.0, 60.0)))
    assert metrics.best.step == 30


def test_lines_are_in_order_with_the_reading_before_the_evaluation(tmp_path):
    metrics = written(tmp_path / "metrics.jsonl", lines())
    assert [(x.step, type(x)) for x in metrics.lines[:4]] == [
        (5, Reading),
        (10, Reading),
        (10, Measured),
        (15, Reading),
    ]


def test_time_leaves_out_what_lies_between_a_stop_and_its_resume(tmp_path):
    entries = lines()
    for entry in entries[4:]:
        entry["time"] += 86_400  # a day later
    metrics = written(tmp_path / "metrics.jsonl", entries)
    # six times half a second, three times two
    assert metrics.evaluations[-1].worked == pytest.approx(9.0)


def test_without_a_rate_the_time_is_not_known(tmp_path):
    entries = lines()
    entries[3]["images_per_second"] = 0.0
    metrics = written(tmp_path / "metrics.jsonl", entries)
    assert metrics.readings[1].worked == pytest.approx(1.0)
    assert all(math.isnan(r.worked) for r in metrics.readings[2:])


@pytest.mark.parametrize(
    "bad",
    [
        '{"kind": "train", "st',
        "[]",
        "7",
        "\x00\xff",
        '{"kind": "train", "epoch": 1}',
        '{"kind": "eval", "step": 3, "epoch": 1, "top1": "x"}',
        '{"kind": "else", "step": 3}',
        "[" * 100_000,
    ],
)
def test_what_is_no_whole_line_is_left_out(bad, tmp_path):
    good = lines()
    assert written(tmp_path / "metrics.jsonl", [good[0], bad, *good[1:]]) == written(tmp_path / "other", good)


def test_a_loss_that_was_not_finite_is_nan(tmp_path):
    metrics = written(tmp_path / "metrics.jsonl", [{**lines()[2], "loss": None}])
    assert math.isnan(metrics.evaluations[0].loss)


def test_no_file_is_no_lines(tmp_path):
    assert read_metrics(tmp_path / "metrics.jsonl", 64).lines == []
