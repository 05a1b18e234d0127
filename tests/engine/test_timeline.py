"""What follows from a step's number alone, at the ends of epochs that lie inside steps."""

import pytest

from resnetctl.engine.timeline import Timeline
from resnetctl.recipe import Override, load_recipe


def timeline(images: int = 10, **values: object) -> Timeline:
    """Of a run of 3 epochs with 4 images a step: epochs end after 2.5, 5 and 7.5 steps, and 7 are made."""
    values = {"train__epochs": 3, "train__global_batch": 4, **values}
    overrides = [Override(key.replace("__", "."), value, "test") for key, value in values.items()]
    return Timeline(recipe=load_recipe("small", overrides=overrides), images=images)


def test_only_the_last_incomplete_step_is_dropped():
    assert (timeline().steps_planned, timeline().steps) == (7, 7)
    short = timeline(train__max_steps=5)
    assert (short.steps_planned, short.steps) == (7, 5)


def test_an_epoch_is_done_with_the_step_that_reaches_its_end():
    assert [timeline().epoch(step) for step in (0, 2, 5)] == [0.0, 0.8, 2.0]
    assert [timeline().epochs_done(step) for step in (2, 3, 5, 6, 7)] == [0.8, 1, 2, 2.4, 3]
    assert [timeline().epoch_of(step) for step in (1, 3, 4, 7)] == [(0, 0, 3), (0, 0, 3), (1, 3, 5), (2, 5, 8)]


@pytest.mark.parametrize(("every", "after"), [(1, [3, 5, 7]), (2, [5, 7]), (5, [7])])
def test_an_evaluation_follows_the_step_that_ends_an_epoch_and_the_last_one(every, after):
    run = timeline(train__eval_every_epochs=every)
    assert [step for step in range(8) if run.evaluates_after(step)] == after


def test_a_step_that_ends_several_epochs_is_evaluated_once():
    run = timeline(images=2, train__epochs=6)
    assert [run.evaluates_after(step) for step in range(4)] == [False, True, True, True]


def test_the_largest_resolution_to_come():
    run = timeline(train__epochs=6, data__train_size=96, data__train_size_start=32, data__train_size_ramp=(0.3, 0.7))
    sizes = [run.size(step) for step in range(run.steps)]
    assert sizes[0] == 32
    assert sizes[-1] == 96
    assert [run.largest_size(step) for step in range(run.steps)] == [96] * run.steps


def test_the_backbone_is_frozen_for_its_epochs():
    assert not any(timeline().is_frozen(step) for step in range(7))
    assert [timeline(train__freeze="backbone", train__freeze_epochs=1.0).is_frozen(s) for s in (0, 2, 3)] == [1, 1, 0]
    assert timeline(train__freeze="backbone").is_frozen(6)
