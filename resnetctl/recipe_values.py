"""Values of a recipe: bounds, types, TOML form, and error messages."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import MISSING, field, fields
from functools import cache
from itertools import pairwise
from typing import Any, Literal, NamedTuple, get_type_hints

from resnetctl.errors import UsageError, printable
from resnetctl.typed_json import decode, kind_name


class RecipeError(UsageError):
    """An invalid recipe; `problems` lists (key, what is wrong) for all values."""

    def __init__(self, problems: list[tuple[str, str]], *, hint: str | None = None) -> None:
        lines = [f"{key}: {text}" for key, text in problems]
        one = len(lines) == 1
        super().__init__(lines[0] if one else "\n  ".join([f"{len(lines)} problems:", *lines]), hint=hint)
        self.problems = problems


# --- bounds ---------------------------------------------------------------------------------------------------------


class Rule(NamedTuple):
    """A constraint on values of the right type, as text and as a predicate."""

    allowed: str
    holds: Callable[[Any], bool]
    words: tuple[str, ...] = ()
    """The allowed words, if it is a choice of words."""


def between(low: float, high: float) -> Rule:
    """From `low` to `high`, both allowed."""
    return Rule(f"from {low} to {high}", lambda value: low <= value <= high)


def less_than(high: float) -> Rule:
    """From 0 to less than `high`."""
    return Rule(f"from 0 to less than {high}", lambda value: 0 <= value < high)


def zero_or(rule: Rule) -> Rule:
    """0, or what `rule` allows."""
    return Rule(f"0, or {rule.allowed}", lambda value: value == 0 or rule.holds(value))


def rising(low: float, high: float, words: str) -> Rule:
    """Two numbers from `low` to `high`, the second not below the first."""
    return Rule(words, lambda pair: bool(low <= pair[0] <= pair[1] <= high))


def each(low: float, high: float, words: str) -> Rule:
    """Several numbers, each from `low` to `high`."""
    return Rule(words, lambda values: all(low <= value <= high for value in values))


def one_of(*words: str) -> Rule:
    """One of a few words."""
    return Rule("one of " + ", ".join(words), lambda value: value in words, words)


increasing = Rule(
    "numbers above 0, each more than the one before",
    lambda values: all(low < high for low, high in pairwise((0, *values))),
)
not_empty = Rule("text that is not empty", bool)


# --- keys and their sections ----------------------------------------------------------------------------------------


def key(default: Any = MISSING, rule: Rule | None = None, *, resume: Literal["same", "free"] = "same") -> Any:
    """A recipe's key: its default (none: required), its bounds, and whether a resumed run may change it.

    "free" is for keys that change no result, or only when the run stops or is evaluated.
    """
    return field(default=default, metadata={"rule": rule, "resume": resume})


class Section:
    """A table of a recipe: a frozen dataclass of keys, checked when it is made. `TrainRecipe` is the table `train`."""

    def __post_init__(self) -> None:
        """Converts each value to its key's type; raises RecipeError with all problems."""
        section: Any = type(self)
        problems = [problem for f in fields(section) if (problem := self._settle(f.name, f.metadata["rule"]))]
        problems = problems or self._conflicts()
        if problems:
            table = section.__name__.removesuffix("Recipe").lower()
            raise RecipeError([(f"{table}.{name}", text) for name, text in problems])

    def _conflicts(self) -> list[tuple[str, str]]:
        """(key, what is wrong) for values that are individually valid, but not together."""
        return []

    def _settle(self, name: str, rule: Rule | None) -> tuple[str, str] | None:
        section: Any = type(self)
        kind, value = kinds(section)[name], getattr(self, name)
        try:
            value = converted(value, kind)
        except ValueError:
            bounds = f"; it must be {rule.allowed}" if rule else ""
            return name, f"{show_value(value)} is not {'allowed' if type(value) is kind else kind_name(kind)}{bounds}"
        object.__setattr__(self, name, value)
        if rule is not None and not rule.holds(value):
            return name, f"{show_value(value)} is not allowed; it must be {rule.allowed}"
        return None


@cache
def kinds(section_class: type) -> dict[str, Any]:
    """The type of each field of a section."""
    return get_type_hints(section_class)


# --- types ----------------------------------------------------------------------------------------------------------


def converted(value: Any, kind: Any) -> Any:
    """`value` converted to type `kind`; ValueError if it does not fit."""
    value = decode(kind, value, "")
    if not all(_storable(text) for text in (value if isinstance(value, tuple) else (value,)) if isinstance(text, str)):
        raise ValueError("not every file could hold it")
    return value


def _storable(text: str) -> bool:
    """Whether `text` is valid UTF-8 of a reasonable length."""
    return len(text) <= 10_000 and not re.search("[\ud800-\udfff\0]", text)


def toml_value(value: Any) -> str:
    """`value` as TOML, on one line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # JSON's escapes are TOML's too, but TOML forbids a raw DEL
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, list | tuple):
        return "[" + ", ".join(toml_value(v) for v in value) + "]"
    return repr(value)


def show_value(value: Any) -> str:
    """`value` for a message: as TOML, printable, and not long."""
    text = printable(toml_value(value))
    return text if len(text) <= 120 else text[:117] + "..."
