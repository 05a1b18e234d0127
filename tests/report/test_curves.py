"""What a report draws: from metrics to points."""

import json

import pytest

from resnetctl.report.curves import over_epochs, over_time, thinned
from resnetctl.runs.folder import create_run
from resnetctl.runs.summary import summarise
from tests.fixtures.runs import make_run


@pytest.fixture
def summary(tmp_path):
    return summarise(make_run(tmp_path, "first"))


def curves(plots, title):
    (plot,) = [p for p in plots if p.title == title]
    return {curve.name: curve.points for curve in plot.curves}


def test_over_epochs(summary):
    plots = over_epochs([summary])
    assert curves(plots, "Loss")["training"][:2] == ((0.5, 3 - 5 / 15), (1.0, 3 - 10 / 15))
    assert curves(plots, "Loss")["val"] == ((1.0, 1.5), (2.0, 1.5), (3.0, 1.5))
    assert curves(plots, "Accuracy on val") == {
        "top-1": ((1.0, 20.0), (2.0, 60.0), (3.0, 50.0)),
        "top-5": ((1.0, 90.0), (2.0, 90.0), (3.0, 90.0)),
    }
    assert curves(plots, "Waiting for data")[""][0] == (0.5, 25.0)
    assert curves(plots, "Speed of training")[""][0] == (0.5, 640.0)
    assert curves(plots, "Learning rate")[""][0] == (0.5, 0.1)


def test_over_time_is_that_of_the_work(summary):
    """5 steps take half a second and an evaluation 2 s; the clock on the wall is not looked at."""
    plots = over_time([summary])
    assert {plot.x_name for plot in plots} == {"seconds"}
    assert [x for x, _ in curves(plots, "Accuracy on val")["top-1"]] == [3.0, 6.0, 9.0]


@pytest.mark.parametrize(("rate", "unit"), [(640.0, "seconds"), (10.0, "minutes"), (0.2, "hours"), (0.01, "days")])
def test_the_unit_suits_the_longest_run(tmp_path, rate, unit):
    run = make_run(tmp_path, "first")
    lines = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    for line in lines:
        if line["kind"] == "train":
            line["images_per_second"] = rate
    run.metrics.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert over_time([summarise(run)])[0].x_name == unit


def test_what_is_not_a_number_is_left_out(tmp_path):
    run = make_run(tmp_path, "first")
    with run.metrics.open("a") as file:
        file.write('{"kind": "train", "step": 31, "epoch": 3.1, "lr": 0.1}\n')  # of a version without the others
    plots = over_epochs([summarise(run)])
    assert curves(plots, "Loss")["training"][-1][0] == 3.0
    assert curves(plots, "Learning rate")[""][-1] == (3.1, 0.1)


def test_a_run_without_metrics_has_empty_plots(tmp_path):
    assert all(plot.is_empty for plot in over_epochs([summarise(create_run(tmp_path, "new", "small"))]))


def test_many_points_become_their_means():
    points = tuple((float(x), float(x % 2)) for x in range(1000))
    thin = thinned(points, 100)
    assert len(thin) == 100
    assert thin[0] == (4.5, 0.5)
    assert thinned(points, 1000) == points
    assert len(thinned(points, 999)) == 500
