"""The first signal asks, the second quits, and afterwards all is as before."""

import contextlib
import os
import signal
import threading
import time

import pytest

from resnetctl.engine.signals import StopRequest, stop_on_signals
from tests.process import call

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


def nobody(_: object) -> None:
    pass


@pytest.mark.parametrize("number", SIGNALS)
def test_once_asks(number):
    with stop_on_signals(nobody, nobody) as stop:
        stop.begun = True
        assert stop.signal is None
        os.kill(os.getpid(), number)
        assert stop.signal == number


@pytest.mark.parametrize("first", SIGNALS)
@pytest.mark.parametrize("second", SIGNALS)
def test_twice_quits(first, second):
    left: list[int] = []
    with stop_on_signals(nobody, left.append) as stop:
        stop.begun = True
        os.kill(os.getpid(), first)
        assert left == []
        os.kill(os.getpid(), second)
        assert left == [first]


@pytest.mark.parametrize("number", SIGNALS)
def test_before_the_run_has_begun_once_quits(number):
    with stop_on_signals(nobody, nobody) as stop:
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
        assert stop.signal == number


class Unlucky:
    """A signal comes while it is destroyed."""

    def __del__(self) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(1000):
            pass


def stop_twice() -> None:
    with stop_on_signals(lambda text: None, os._exit) as stop:
        stop.begun = True
        os.kill(os.getpid(), signal.SIGINT)
        Unlucky()


def test_a_second_signal_is_never_lost():
    """Python ignores an exception in a destructor, as in what it calls around a fork."""
    assert call(stop_twice).returncode == signal.SIGINT


def stop_at_the_start() -> None:
    with contextlib.suppress(KeyboardInterrupt), stop_on_signals(lambda text: None, os._exit):
        Unlucky()
        time.sleep(600)
        os._exit(1)


def test_before_the_run_has_begun_a_signal_is_never_lost():
    assert call(stop_at_the_start).returncode == 0


def test_what_happens_is_told_at_once_while_the_step_goes_on():
    said: list[str] = []
    told = threading.Event()

    def tell(text: str) -> None:
        said.append(text)
        told.set()

    with stop_on_signals(tell, nobody) as stop:
        stop.begun = True
        os.kill(os.getpid(), signal.SIGINT)
        assert told.wait(10)
    assert said == ["finishing the step, then saving; Ctrl-C again quits at once"]
    said.clear()
    with stop_on_signals(tell, nobody) as stop:
        stop.begun = True
        os.kill(os.getpid(), signal.SIGTERM)
    assert said == ["SIGTERM: finishing the step, then saving; a second signal quits at once"]


def test_nothing_is_told_where_no_signal_came():
    with stop_on_signals(pytest.fail, pytest.fail):
        pass
    assert "signals" not in [thread.name for thread in threading.enumerate()]


def test_the_handler_waits_for_nothing_that_the_main_thread_holds():
    lock = threading.Lock()
    with stop_on_signals(lambda text: lock.acquire() and None, nobody) as stop:
        stop.begun = True
        with lock:
            os.kill(os.getpid(), signal.SIGTERM)  # would never return
            assert stop.signal == signal.SIGTERM


def test_an_echo_is_no_second_signal():
    left: list[int] = []
    with stop_on_signals(nobody, left.append, echo_seconds=0.2) as stop:
        stop.begun = True
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.25)
        assert left == []
        os.kill(os.getpid(), signal.SIGTERM)
        assert left == [signal.SIGTERM]


def test_the_handlers_of_before_come_back():
    before = [signal.getsignal(number) for number in SIGNALS]
    with pytest.raises(KeyError), stop_on_signals(nobody, nobody):
        raise KeyError
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_a_request_of_nobody():
    assert (StopRequest().signal, StopRequest().begun) == (None, False)
