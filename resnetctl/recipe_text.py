"""A recipe as a file to edit: every value with its meaning above it."""

from __future__ import annotations

import ast
import inspect
import textwrap
from functools import cache

from resnetctl import recipe_fields
from resnetctl.recipe import Recipe, value_of
from resnetctl.recipe_fields import SECTIONS
from resnetctl.recipe_values import toml_value

_WIDTH = 100


@cache
def meanings() -> dict[str, str]:
    """The meaning of each `section.key`, from the text below its declaration."""
    names = {kind.__name__: section for section, kind in SECTIONS.items()}
    found = {}
    for node in ast.parse(inspect.getsource(recipe_fields)).body:
        if not isinstance(node, ast.ClassDef) or node.name not in names:
            continue
        for entry, below in zip(node.body, node.body[1:], strict=False):
            match entry, below:
                case ast.AnnAssign(target=ast.Name(id=key)), ast.Expr(value=ast.Constant(value=str(text))):
                    found[f"{names[node.name]}.{key}"] = " ".join(text.split())
    return found


def recipe_to_file(recipe: Recipe) -> str:
    """The whole recipe as a TOML file to edit, without the published result, which holds only for its own values."""
    lines = [f"{name} = {toml_value(getattr(recipe, name))}" for name in ("name", "summary", "source")]
    lines += ["notes = [", *(f"    {toml_value(note)}," for note in recipe.notes), "]"]
    section = ""
    for key, meaning in meanings().items():
        table, _, name = key.partition(".")
        if table != section:
            lines += ["", f"[{table}]"]
            section = table
        lines += textwrap.wrap(meaning, _WIDTH, initial_indent="# ", subsequent_indent="# ")
        lines.append(f"{name} = {toml_value(value_of(recipe, key))}")
    return "\n".join(lines) + "\n"
