"""Layered recipes, and the origin of each value.

Each layer overrides the previous one: the defaults in `recipe_fields`, a preset in `recipes/*.toml`, the user's TOML
file (which may say `extends = "fast"`), and single values from flags and `--set key=value`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, NamedTuple

from resnetctl.errors import CheckpointError, UsageError, did_you_mean, printable
from resnetctl.recipe_fields import (  # noqa: F401 - the sections are known from here
    ABOUT,
    ARCHITECTURES,
    SECTIONS,
    CheckpointRecipe,
    DataRecipe,
    EmaRecipe,
    ModelRecipe,
    OptimizerRecipe,
    Recipe,
    ScheduleRecipe,
    TrainRecipe,
)
from resnetctl.recipe_values import RecipeError, converted, kinds, show_value, toml_value
from resnetctl.typed_json import decode, encode, kind_name

_PRESETS = Path(__file__).parent / "recipes"
_MAX_FILE_BYTES = 1 << 20
_MAX_EXTENDS = 8
_DEFAULT = "default"  # the origin of values that no layer gives
_LATER_SECTIONS = ("ema",)  # missing in the first version's checkpoints


class Override(NamedTuple):
    """One value from outside the recipe, such as a flag's: `section.key`, the value, and its origin."""

    key: str
    value: Any
    origin: str


class _Layer(NamedTuple):
    about: dict[str, Any]
    values: list[Override]


def keys() -> list[str]:
    """Every `section.key`, in display order."""
    return [f"{section}.{f.name}" for section, kind in SECTIONS.items() for f in fields(kind)]


def choices(key: str) -> tuple[str, ...]:
    """The allowed values of `section.key`, if that is a boolean or one of a few words; else empty."""
    section, name = key.split(".")
    declared = next(f for f in fields(SECTIONS[section]) if f.name == name)
    if kinds(SECTIONS[section])[name] is bool:
        return ("true", "false")
    rule = declared.metadata["rule"]
    return rule.words if rule else ()


def recipe_names() -> list[str]:
    """The presets' names."""
    return sorted(path.stem for path in _PRESETS.glob("*.toml"))


def preset_path(name: str) -> Path:
    """The file of the preset `name`."""
    return _PRESETS / f"{name}.toml"


def value_of(recipe: Recipe, key: str) -> Any:
    """The value at `section.key`."""
    section, name = key.split(".")
    return getattr(getattr(recipe, section), name)


def may_change(key: str) -> bool:
    """Whether a resumed run may change `section.key`."""
    section, name = key.split(".")
    return next(f.metadata["resume"] == "free" for f in fields(SECTIONS[section]) if f.name == name)


def effective_lr(recipe: Recipe) -> float:
    """The peak learning rate in use: `lr`, scaled by `lr_rule` if it is stated for another global batch."""
    optimizer = recipe.optimizer
    if not optimizer.lr_batch:
        return optimizer.lr
    if optimizer.lr_rule == "sqrt":
        return optimizer.lr * math.sqrt(recipe.train.global_batch / optimizer.lr_batch)
    return optimizer.lr * recipe.train.global_batch / optimizer.lr_batch


def effective_warmup_epochs(recipe: Recipe) -> float:
    """Epochs of warm-up in use: at most half of the run."""
    return min(recipe.schedule.warmup_epochs, recipe.train.epochs / 2)


def differences(a: Recipe, b: Recipe) -> list[tuple[str, Any, Any]]:
    """(key, value in `a`, value in `b`) for each value that differs."""
    return [(key, value_of(a, key), value_of(b, key)) for key in keys() if value_of(a, key) != value_of(b, key)]


# --- reading layers -------------------------------------------------------------------------------------------------


def load_recipe(name_or_path: str, *, overrides: list[Override] | tuple[Override, ...] = ()) -> Recipe:
    """A preset by its name, or a TOML file by its path, with `overrides` on top (a later one wins).

    If a layer sets `optimizer.lr` but not `optimizer.lr_batch`, the rate is used unscaled. Raises UsageError that lists
    every unknown key and every invalid value, with its origin.
    """
    values: dict[str, Override] = {}
    problems: list[tuple[str, str]] = []
    about: dict[str, Any] = {}
    for layer in _file_layers(name_or_path):
        _apply(layer.values, values, problems)
        # a file that changes a preset does not have its published result
        about = {**about, "published": "", **layer.about}
    _apply(overrides, values, problems)
    return _build(about, values, problems)


def change_recipe(recipe: Recipe, overrides: list[Override] | tuple[Override, ...]) -> Recipe:
    """`recipe` with single values overridden, by the rules of `load_recipe`."""
    values = {key: Override(key, value_of(recipe, key), recipe.origins.get(key, _DEFAULT)) for key in keys()}
    problems: list[tuple[str, str]] = []
    _apply(overrides, values, problems)
    return _build({name: getattr(recipe, name) for name in ABOUT}, values, problems)


def _apply(layer: Iterable[Override], values: dict[str, Override], problems: list[tuple[str, str]]) -> None:
    """Merge `layer` into `values`, by key; unknown keys become problems."""
    known, given = keys(), {override.key: override for override in layer}
    if "optimizer.lr" in given and "optimizer.lr_batch" not in given:
        batch = values.get("optimizer.lr_batch")
        if batch and batch.value:
            origin = f"{given['optimizer.lr'].origin}: a given rate is used unscaled"
            given["optimizer.lr_batch"] = Override("optimizer.lr_batch", 0, origin)
    for key, override in given.items():
        if key in known:
            values[key] = override
        else:
            origin = printable(override.origin)
            problems.append((printable(key), f"no such value{_suggestion(key)} (from {origin})"))


def _suggestion(key: str) -> str:
    """ "; did you mean …?" by the whole key, or by its last part if the section is missing or wrong."""
    last = key.rpartition(".")[2]
    same_name = [known for known in keys() if known.rpartition(".")[2] == last]
    close = same_name[0] if same_name else did_you_mean(key, keys())
    if close is None:
        name = did_you_mean(last, [known.rpartition(".")[2] for known in keys()])
        close = next((known for known in keys() if known.rpartition(".")[2] == name), None)
    return f"; did you mean {close}?" if close else ""


def _build(about: dict[str, Any], values: dict[str, Override], problems: list[tuple[str, str]]) -> Recipe:
    """The recipe of all layers' `values`; raises RecipeError with all problems."""
    sections: dict[str, Any] = {}
    origins = {key: values[key].origin if key in values else _DEFAULT for key in keys()}
    for section, kind in SECTIONS.items():
        given = {f.name: values[key].value for f in fields(kind) if (key := f"{section}.{f.name}") in values}
        missing = [f.name for f in fields(kind) if f.default is MISSING and f.name not in given]
        problems += [(f"{section}.{name}", "not given, and it has no default") for name in missing]
        if missing:
            continue
        try:
            sections[section] = kind(**given)
        except RecipeError as error:
            for key, text in error.problems:
                problems.append((key, f"{text} (from {printable(origins[key])})"))
    texts: dict[str, Any] = {}
    for name in ABOUT:
        try:
            texts[name] = converted(about.get(name, [] if name == "notes" else ""), kinds(Recipe)[name])
        except ValueError:
            problems.append((name, f"{show_value(about[name])} is not {kind_name(kinds(Recipe)[name])}"))
    if problems:
        raise RecipeError(problems, hint="every value and what it means: resnetctl recipe show small --toml")
    return Recipe(**texts, **sections, origins=origins)


def _file_layers(name_or_path: str) -> list[_Layer]:
    """The file and everything it extends, deepest first."""
    layers: list[_Layer] = []
    wanted, folder, needed_by = name_or_path, Path(), ""
    while True:
        is_path = wanted.endswith(".toml") or "/" in wanted
        path = folder / Path(wanted).expanduser() if is_path else preset_path(wanted)
        if not is_path and wanted not in recipe_names():
            close = did_you_mean(wanted, recipe_names())
            raise UsageError(
                f"no recipe is called {printable(wanted)}{needed_by.rstrip(',')}"
                + (f"; did you mean {close}?" if close else ""),
                hint="resnetctl recipe list shows all; your own file is given by its path, ending in .toml",
            )
        table = _read_toml(path, needed_by)
        extends = table.pop("extends", None)
        if not is_path:
            table.pop("top1", None)  # the published result: see `recipe_published`
        layers.insert(0, _layer(table, path, path.name if is_path else f"recipe {wanted}"))
        if extends is None:
            return layers
        if not isinstance(extends, str) or len(layers) == _MAX_EXTENDS:
            raise UsageError(f"{printable(path)}: `extends` must name one recipe, at most {_MAX_EXTENDS} deep")
        wanted, folder, needed_by = extends, path.parent, f", which {printable(path)} extends,"


def _layer(table: dict[str, Any], path: Path, origin: str) -> _Layer:
    about = {name: table.pop(name) for name in ABOUT if name in table}
    about.setdefault("name", path.stem)
    values: dict[str, Any] = {}
    for section, entries in table.items():
        if isinstance(entries, dict):
            values |= {f"{section}.{name}": value for name, value in entries.items()}
        else:
            values[section] = entries
    return _Layer(about, [Override(key, value, origin) for key, value in values.items()])


def _read_toml(path: Path, needed_by: str) -> dict[str, Any]:
    import tomllib

    own = "resnetctl recipe list shows the built-in ones; resnetctl recipe new NAME --from RECIPE makes your own"
    extended = "`extends` names a built-in recipe (resnetctl recipe list), or a file by its path relative to this one"

    try:
        with path.open("rb") as file:
            data = file.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        raise UsageError(
            f"the recipe {printable(path)}{needed_by} cannot be read: {error.strerror}",
            hint=extended if needed_by else own,
        ) from None
    if len(data) > _MAX_FILE_BYTES:
        raise UsageError(f"{printable(path)} is over 1 MiB, which no recipe is")
    try:
        return tomllib.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise UsageError(
            f"{printable(path)} is not TOML: {printable(error)}",
            hint="for a valid file to start from: resnetctl recipe new NAME --from RECIPE",
        ) from None


# --- one value from the command line --------------------------------------------------------------------------------


def parse_set(text: str) -> Override:
    """`section.key=value` as an Override. The value is TOML; strings need no quotes and lists no brackets.

    Raises UsageError if there is no `=`, no such key, or the value is of another type.
    """
    key, equals, value = (part.strip() for part in text.partition("="))
    hint = "resnetctl recipe show small lists every key"
    if not equals:
        raise UsageError(
            f"--set {printable(text)} is not of the form key=value", hint="for example --set optimizer.lr=0.1"
        )
    if key not in keys():
        raise UsageError(f"--set {printable(key)}: no such value{_suggestion(key)}", hint=hint)
    section, name = key.split(".")
    kind = kinds(SECTIONS[section])[name]
    try:
        return Override(key, converted(_parse_value(value, kind), kind), "--set")
    except ValueError:
        raise UsageError(
            f"--set {key}={printable(value)}: it must be {kind_name(kind)}", hint="resnetctl recipe show small"
        ) from None


def _parse_value(text: str, kind: Any) -> Any:
    import tomllib

    if kind is str and text[:1] not in ("'", '"'):
        return text
    is_list = kind not in (bool, int, float, str) and not text.startswith("[")
    try:
        table = tomllib.loads(f"v = [{text}]" if is_list else f"v = {text}")
    except (ValueError, RecursionError):
        table = {}
    if list(table) == ["v"]:
        return table["v"]
    try:
        # TOML has neither ".1" nor "1."
        return float(text) if kind is float else text
    except ValueError:
        return text


# --- writing and reading back ---------------------------------------------------------------------------------------


def recipe_to_toml(recipe: Recipe) -> str:
    """The whole recipe as a recipe file, with each value's origin as a comment."""
    lines = [f"{name} = {toml_value(getattr(recipe, name))}" for name in ABOUT if name != "notes"]
    lines += ["notes = [", *(f"    {toml_value(note)}," for note in recipe.notes), "]"]
    for section, kind in SECTIONS.items():
        lines += ["", f"[{section}]"]
        for f in fields(kind):
            key = f"{section}.{f.name}"
            lines.append(
                f"{f.name} = {toml_value(value_of(recipe, key))}  # from {printable(recipe.origins.get(key, '?'))}"
            )
    return "\n".join(lines) + "\n"


def recipe_to_dict(recipe: Recipe) -> dict[str, Any]:
    """The whole recipe, with origins, as a JSON document."""
    document: dict[str, Any] = encode(recipe)
    return document


def recipe_from_dict(document: Any) -> Recipe:
    """The inverse of `recipe_to_dict`, every value checked again. Raises CheckpointError if it is invalid."""
    if not isinstance(document, dict):
        raise CheckpointError("the checkpoint's recipe is not a table of values")
    values: dict[str, Any] = {}
    problems: list[tuple[str, str]] = []
    for name, entries in document.items():
        if name in SECTIONS and isinstance(entries, dict):
            values |= {f"{name}.{key}": value for key, value in entries.items()}
        elif name not in (*ABOUT, "origins"):
            problems.append((printable(name)[:80], "unknown in this version's recipes"))
    try:
        origins = decode(dict[str, str], document.get("origins", {}), "origins")
    except ValueError:
        problems.append(("origins", "they are not a table of texts"))
        origins = {}
    read: dict[str, Override] = {}
    _apply([Override(key, value, origins.get(key, _DEFAULT)) for key, value in values.items()], read, problems)
    problems += [(name, "it is missing") for name in SECTIONS if name not in (*document, *_LATER_SECTIONS)]
    # a key that an older version lacked takes its default, which must therefore match that version's behaviour
    try:
        return _build({name: document[name] for name in ABOUT if name in document}, read, problems)
    except RecipeError as error:
        raise CheckpointError(
            f"the checkpoint's recipe is not valid: {error.message}",
            hint="it was written by another version of resnetctl, or changed afterwards",
        ) from None
