"""Rates: of the steps since the last reading of the loss, and before the first one of what was done so far."""

import time
from types import SimpleNamespace

import pytest
import torch

from resnetctl.engine.meter import Meter, Timed, TimedOnGpu


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
    assert timed.take() >= 0.1
    assert timed.take() == 0.0, "each second is told once"


class Gpu:
    """A GPU's clock and queue, as events see them: an event is passed once the work before it is done."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.now = self.busy_until = 0.0
        gpu = self

        class Event:
            def __init__(self, enable_timing: bool) -> None:
                assert enable_timing

            def record(self, stream: object) -> None:
                self.at = max(gpu.now, gpu.busy_until)

            def query(self) -> bool:
                return self.at <= gpu.now

            def elapsed_time(self, other: "Event") -> float:
                return 1000 * (other.at - self.at)

        patch.setattr(torch.cuda, "Event", Event)
        patch.setattr(torch.cuda, "current_stream", lambda device: SimpleNamespace())

    def batches(self, *seconds: float):
        """Each comes after so many seconds of waiting."""
        for wait in seconds:
            self.now += wait
            yield wait

    def work(self, seconds: float) -> None:
        self.busy_until = max(self.now, self.busy_until) + seconds


def test_on_a_gpu_waiting_is_the_time_in_which_it_had_nothing_to_do(monkeypatch):
    gpu = Gpu(monkeypatch)
    timed = TimedOnGpu(gpu.batches(3, 4, 9), torch.device("cuda"))
    next(timed)
    assert timed.take() == 3, "before the first batch it has nothing to do"
    gpu.work(5)
    next(timed)  # after 4 of its 5 seconds
    gpu.work(5)
    assert timed.take() == 0, "the event behind the first step is not passed yet, and not waited for"
    next(timed)  # 9 seconds later it has been at the end of both steps for 3
    assert timed.take() == 3
    assert timed.take() == 0


@pytest.mark.gpu
def test_a_gpu_that_computes_does_not_wait_and_one_without_work_does():
    def batches():
        for seconds in (0.0, 0.05, 0.3):
            time.sleep(seconds)
            yield seconds

    device = torch.device("cuda")
    a = torch.ones(8192, 8192, device=device)
    timed = TimedOnGpu(batches(), device)
    next(timed)
    torch.cuda._sleep(2_000_000_000)  # cycles: about a second
    next(timed)
    a @ a
    torch.cuda.synchronize()
    assert timed.take() < 0.01
    next(timed)
    torch.cuda.synchronize()
    assert 0.25 < timed.take() < 0.4
