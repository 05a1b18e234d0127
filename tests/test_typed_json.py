import json
import math
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resnetctl.typed_json import decode, decode_text, encode, kind_name, parse


@dataclass(frozen=True, kw_only=True)
class Point:
    x: float
    y: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Everything:
    flag: bool
    count: int
    rate: float
    text: str
    maybe: str | None
    pair: tuple[int, str]
    points: tuple[Point, ...]
    table: dict[str, int | str]
    renamed: int = field(metadata={"json": "other"})
    place: str = field(metadata={"json": None})
    more: tuple[str, ...] = ()
    point: Point | None = None

    def __post_init__(self) -> None:
        if self.count > 1000:
            raise ValueError("count is over a thousand")


WHOLE: dict[str, Any] = {
    "flag": True,
    "count": 3,
    "rate": 1,
    "text": "é\ud800",
    "maybe": None,
    "pair": [1, "a"],
    "points": [{"x": 1.5}, {"x": 2, "y": 3}],
    "table": {"a": 1, "b": "c"},
    "other": 7,
}
DECODED = Everything(
    flag=True,
    count=3,
    rate=1.0,
    text="é\ud800",
    maybe=None,
    pair=(1, "a"),
    points=(Point(x=1.5), Point(x=2.0, y=3.0)),
    table={"a": 1, "b": "c"},
    renamed=7,
    place="here",
)


def test_each_value_takes_its_fields_type() -> None:
    found = decode(Everything, WHOLE, "it", place="here")
    assert found == DECODED
    assert type(found.rate) is float
    assert type(found.points[1].x) is float


def test_what_is_encoded_is_decoded_again() -> None:
    written = json.dumps(encode(DECODED))
    assert "here" not in written
    assert decode_text(Everything, written, "it", place="here") == DECODED
    assert list(json.loads(written)) == [*WHOLE, "more", "point"]


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("flag", 1, "it.flag: 1 is not true or false"),
        ("count", True, "it.count: true is not a whole number"),
        ("count", 1.0, "it.count: 1.0 is not a whole number"),
        ("count", 1 << 63, "it.count: 9223372036854775808 is not a whole number"),
        pytest.param("count", 1 << 20_000, "it.count: a number of over 64 bits is not a whole number", id="huge"),
        ("count", 1001, "it: count is over a thousand"),
        ("rate", math.nan, "it.rate: NaN is not a number"),
        ("rate", math.inf, "it.rate: Infinity is not a number"),
        ("rate", 1 << 53, "it.rate: 9007199254740992 is not a number"),
        ("rate", "1", 'it.rate: "1" is not a number'),
        ("rate", False, "it.rate: false is not a number"),
        ("text", None, "it.text: null is not text"),
        ("text", "x" * 100_000, "is not text"),
        ("text", "\x1b[31m" * 20_000, "is not text"),
        ("maybe", 3, "it.maybe: 3 is not text or null"),
        ("pair", [1], "it.pair: a list is not a list of 2 whole numbers"),
        ("pair", ["1", "a"], 'it.pair[0]: "1" is not a whole number'),
        ("points", {}, "it.points: a table is not a list"),
        ("points", [{"x": 1}, {"x": "y"}], 'it.points[1].x: "y" is not a number'),
        ("points", [{"y": 1}], "it.points[0].x is missing"),
        ("points", [{"x": 1, "z": 1}], "it.points[0].z: no such value"),
        ("points", [3], "it.points[0]: 3 is not a table"),
        ("table", {"a": None}, "it.table.a: null is not a whole number or text"),
        ("table", [], "it.table: a list is not a table"),
        ("more", "abc", 'it.more: "abc" is not a list of texts'),
        ("point", [], "it.point: a list is not a table"),
        ("renamed", 7, "it.renamed: no such value"),
        ("place", "there", "it.place: no such value"),
        ("\x1b[31m", 7, r"it.\x1b[31m: no such value"),
    ],
)
def test_what_does_not_fit_is_refused_by_its_path(name: str, value: object, says: str) -> None:
    with pytest.raises(ValueError, match="it") as raised:
        decode(Everything, {**WHOLE, name: value}, "it", place="here")
    message = str(raised.value)
    assert says in message
    assert len(message) < 300
    assert "\x1b" not in message


@pytest.mark.parametrize("text", [b"", b"{", b"\xff", b"[" * 100_000, b'{"a": 1} x', b"9" * 10_000])
def test_what_is_no_json_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"^it "):
        parse(text, "it")


def test_a_number_that_json_has_not_is_never_written() -> None:
    with pytest.raises(ValueError, match="nan"):
        encode({"a": [1.0, math.nan]})


def test_types_that_are_no_dataclasses() -> None:
    assert decode(dict[str, float], {"a": 1}, "it") == {"a": 1.0}
    assert decode(tuple[int, ...], [1, 2], "it") == (1, 2)
    assert decode(int, 3, "it") == 3
    assert kind_name(tuple[float, float, float]) == "a list of 3 numbers"


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from([*WHOLE, "x", "y", "?"]), inner),
    max_leaves=20,
)


@settings(max_examples=300, deadline=None)
@given(change=st.dictionaries(st.sampled_from([*WHOLE, "more", "point", "?"]), _json, max_size=3), whole=st.booleans())
def test_anything_is_decoded_to_its_types_or_refused_with_value_error(change: dict[str, Any], whole: bool) -> None:
    try:
        found = decode(Everything, {**WHOLE, **change} if whole else change, "it", place="here")
    except ValueError:
        return
    assert decode(Everything, encode(found), "it", place="here") == found
