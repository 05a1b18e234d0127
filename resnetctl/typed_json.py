"""Decodes JSON, validated against type hints, and encodes the same values.

A type is bool, int (64 bits), float (finite; whole numbers too), str, None in a union, `tuple[X, ...]` or one of fixed
length, `dict[str, X]`, or a dataclass of such fields. A field with a default may be missing; unknown names are
refused. `field(metadata={"json": NAME})` sets a different name in JSON; NAME None: not in JSON.
"""

from __future__ import annotations

import json
import math
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from resnetctl.errors import printable

_MOST_CHARACTERS = 1 << 16  # of one text
_MOST_ITEMS = 1 << 24  # of one list or table
_EXACT = (bool, int, str, NoneType)  # types that need no conversion
_MOST_WHOLE_FLOAT = 1 << 53  # beyond this, not every whole number is a float

T = TypeVar("T")


def decode(kind: type[T], value: object, what: str, **given: object) -> T:
    """`value`, from `json.loads`, as a `kind`; `given` are its fields that are not in JSON.

    Raises ValueError that begins with the place in `what`: `history[3].top1: true is not a number`.
    """
    result: T = _dataclass(kind, value, what, given) if is_dataclass(kind) else _decode(kind, value, what)
    return result


def decode_text(kind: type[T], text: bytes | str, what: str, **given: object) -> T:
    """`decode` of a JSON document; raises ValueError if it is not JSON."""
    return decode(kind, parse(text, what), what, **given)


def parse(text: bytes | str, what: str) -> Any:
    """`json.loads`, with ValueError for everything it raises."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{what} is not JSON: {error}") from error


def encode(value: Any) -> Any:
    """`value`, of the types above, for `json.dumps`. Raises ValueError for numbers that JSON lacks."""
    if is_dataclass(value):
        named = ((_name(f), getattr(value, f.name)) for f in fields(value))
        return {name: encode(entry) for name, entry in named if name is not None}
    if isinstance(value, dict):
        return {key: encode(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [encode(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"JSON has no {value}")
    return value


def kind_name(kind: Any) -> str:
    """A type in words."""
    origin, args = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return " or ".join(kind_name(arg) for arg in args)
    if origin is tuple:
        number = "" if Ellipsis in args else f"{len(args)} "
        return f"a list of {number}{kind_name(args[0]).removeprefix('a ')}s"
    words = {bool: "true or false", int: "a whole number", float: "a number", str: "text", NoneType: "null"}
    return words.get(kind, "a table")


def shown(value: object) -> str:
    """`value` for a message: as JSON if it is short, else its kind."""
    if isinstance(value, dict | list | tuple):
        return "a table" if isinstance(value, dict) else "a list"
    if isinstance(value, int) and value.bit_length() > 64:
        return "a number of over 64 bits"
    text = printable(json.dumps(value[:120] if isinstance(value, str) else value, ensure_ascii=False, default=repr))
    return text if len(text) <= 120 else text[:117] + "..."


def _decode(kind: Any, value: Any, path: str) -> Any:
    origin, args = get_origin(kind), get_args(kind)
    if is_dataclass(kind):
        return _dataclass(kind, value, path, {})
    if origin in (Union, UnionType):
        one = next((arg for arg in args if type(value) is arg), next((arg for arg in args if arg not in _EXACT), None))
        if one is not None:
            return _decode(one, value, path)
    elif origin is tuple and isinstance(value, list | tuple) and len(value) <= _MOST_ITEMS:
        kinds = (args[0],) * len(value) if args[-1] is Ellipsis else args
        if len(value) == len(kinds):
            return tuple(_decode(k, v, f"{path}[{i}]") for i, (k, v) in enumerate(zip(kinds, value, strict=True)))
    elif origin is dict and isinstance(value, dict) and len(value) <= _MOST_ITEMS:
        return {
            _decode(str, k, f"a name in {path}"): _decode(args[1], v, f"{path}.{printable(k)[:80]}")
            for k, v in value.items()
        }
    elif kind is float:
        if type(value) in (int, float) and _is_finite(value):
            return float(value)
    elif type(value) is kind and _is_sane(value):
        return value
    raise ValueError(f"{path}: {shown(value)} is not {kind_name(kind)}")


def _is_finite(value: float) -> bool:
    return math.isfinite(value) if type(value) is float else abs(value) < _MOST_WHOLE_FLOAT


def _is_sane(value: object) -> bool:
    if type(value) is str:
        return len(value) <= _MOST_CHARACTERS
    return type(value) is not int or -(1 << 63) <= value < 1 << 63


def _dataclass(kind: Any, value: object, path: str, given: dict[str, object]) -> Any:
    if not isinstance(value, dict):
        raise ValueError(f"{path}: {shown(value)} is not a table")
    known = _fields(kind)
    strange = next((name for name in value if name not in known), None)
    if strange is not None:
        raise ValueError(f"{path}.{printable(strange)[:80]}: no such value")
    entries = dict(given)
    for name, (f, hint) in known.items():
        if name in value:
            entries[f.name] = _decode(hint, value[name], f"{path}.{name}")
        elif f.default is MISSING and f.default_factory is MISSING:
            raise ValueError(f"{path}.{name} is missing")
    try:
        return kind(**entries)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


@cache
def _fields(kind: type) -> dict[str, tuple[Field[Any], Any]]:
    """Each field of a dataclass by its name in JSON, with its type."""
    hints = get_type_hints(kind)
    section: Any = kind
    return {name: (f, hints[f.name]) for f in fields(section) if (name := _name(f)) is not None}


def _name(f: Field[Any]) -> str | None:
    name: str | None = f.metadata.get("json", f.name)
    return name
