"""Errors keep their hints, and names from outside are harmless in print."""

import pickle
import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resnetctl.errors import (
    CheckpointError,
    DataError,
    ResnetctlError,
    UsageError,
    did_you_mean,
    exit_code_of,
    printable,
    some,
)


@pytest.mark.parametrize("kind", [ResnetctlError, UsageError, DataError, CheckpointError])
@pytest.mark.parametrize("hint", [None, "run this"])
def test_an_error_survives_the_way_between_processes(kind, hint):
    error = pickle.loads(pickle.dumps(kind("what [bold]", hint=hint)))
    assert type(error) is kind
    assert (error.message, error.hint, str(error)) == ("what [bold]", hint, "what [bold]")


def test_exit_codes():
    codes = [kind("x").exit_code for kind in (ResnetctlError, CheckpointError, UsageError, DataError)]
    assert codes == [1, 1, 2, 3]
    assert [exit_code_of(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)] == [130, 143, 143]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("n01440764/img[/].JPEG", "n01440764/img[/].JPEG"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("a\nb\r\tc\0", "a\\nb\\r\\tc\\x00"),
        ("\u202egnp.exe", "\\u202egnp.exe"),  # shown from right to left it would look like another file
        ("\x9b31m", "\\x9b31m"),  # the one-character escape of eight-bit terminals
        ("caf\u00e9 \u6f22", "caf\u00e9 \u6f22"),
        (b"\xff.jpg".decode(errors="surrogateescape"), "\\udcff.jpg"),
        (12, "12"),
    ],
)
def test_names_are_safe_to_print(name, shown):
    assert printable(name) == shown


@given(st.text())
def test_nothing_that_a_terminal_obeys_is_left(text):
    shown = printable(text)
    assert shown.isprintable()
    shown.encode()  # it is valid text
    assert printable(shown) == shown
    if text.isprintable():
        assert shown == text


def test_some_of_many():
    assert some([]) == ""
    assert some(["a", "b\n"]) == "a, b\\n"
    assert some(list("abcdefgh")) == "a, b, c, d, e and 3 more"
    assert some(range(12), shown=2) == "0, 1 and 10 more"


def test_did_you_mean():
    assert did_you_mean("resnet5", ("resnet18", "resnet50")) == "resnet50"
    assert did_you_mean("vit", ["resnet18"]) is None
    assert did_you_mean("x", []) is None
