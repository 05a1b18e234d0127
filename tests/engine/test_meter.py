"""Rates: of the steps since the last reading of the loss, and before the first one of what was done so far."""

import time

import pytest

from resnetctl.engine.meter import Meter, Timed


def seconds_ago(seconds: float) -> Meter:
    """A meter that has been running for so long."""
    return Meter(since=time.perf_counter() - seconds)


def test_the_rate_is_that_of_the_window():
    meter = seconds_ago(10)
    meter.steps, meter.waited = 50, 2.5
    meter.close_window(64)
    assert meter.images_per_second == pytest.approx(320, rel=0.01)
    assert meter.waiting == pytest.approx(0.25, rel=0.01)
    assert meter.so_far(64) == (meter.images_per_second, meter.waiting)
    assert (meter.steps, meter.waited, meter.total_steps) == (0, 0, 50)


def test_a_slow_run_has_a_rate_before_its_first_reading():
    meter = seconds_ago(20)
    meter.steps, meter.waited = 2, 10.0
    assert meter.so_far(64) == pytest.approx((6.4, 0.5), rel=0.01)
    fresh = Meter()
    fresh.steps = 2
    assert fresh.so_far(64) == (0, 0)


def test_the_rate_stays_over_a_pause_and_does_not_count_it():
    meter = seconds_ago(20)
    meter.steps = 10
    meter.pause()
    meter.since -= 1000  # an evaluation
    meter.go_on()
    assert meter.so_far(64)[0] == pytest.approx(32, rel=0.01)
    meter.close_window(64)
    assert meter.images_per_second == pytest.approx(32, rel=0.01)
    assert meter.training_seconds == pytest.approx(20, rel=0.01)


def test_a_rate_that_was_read_long_ago_is_measured_anew():
    meter = seconds_ago(10)
    meter.steps = 50
    meter.close_window(64)
    meter.since -= 40
    meter.steps = 100
    assert meter.so_far(64)[0] == pytest.approx(160, rel=0.01)


def test_waiting_is_measured():
    def slow():
        for i in range(2):
            time.sleep(0.05)
            yield i

    timed = Timed(slow())
    assert list(timed) == [0, 1]
    assert timed.seconds >= 0.1
