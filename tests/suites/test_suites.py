from pathlib import Path

import pytest

from resnetctl.errors import UsageError
from resnetctl.suites import ON_VAL, SUITES, Chosen, parse_suite


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        ("val", Chosen("val", None)),
        ("real=real.json", Chosen("real", Path("real.json"))),
        ("v2=a=b", Chosen("v2", Path("a=b"))),
        ("a=~/imagenet-a", Chosen("a", Path.home() / "imagenet-a")),
    ],
)
def test_a_suite_and_its_path(text, chosen):
    assert parse_suite(text) == chosen


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("real", "real needs a path"),
        ("v2=", "v2 needs a path"),
        ("val=x", "takes no path"),
        ("reall=x", "unknown suite reall: did you mean real?"),
        ("", "unknown suite"),
    ],
)
def test_what_is_no_suite_is_refused(text, words):
    with pytest.raises(UsageError, match=words.replace("?", r"\?")) as caught:
        parse_suite(text)
    assert caught.value.hint


def test_the_first_ones_are_about_the_val_images():
    assert tuple(SUITES)[: len(ON_VAL)] == ON_VAL
