"""`resnetctl recipe`: list recipes, show every value of one, compare two."""

from typing import Annotated, Any

import typer

from resnetctl.cli import complete, console, help, options

app = typer.Typer(cls=help.Group, no_args_is_help=True, help="List the recipes, show every value of one, compare two.")

Name = Annotated[
    str,
    typer.Argument(
        metavar="RECIPE", autocompletion=complete.recipes, help="A recipe's name, or a file ending in .toml."
    ),
]


@app.command("list")
def list_(as_json: options.Json = False) -> None:
    """List the built-in recipes with their published results.

    \b
    Examples:
      resnetctl recipe list
    """
    from resnetctl.recipe import effective_lr, load_recipe, recipe_names

    recipes = [load_recipe(name) for name in recipe_names()]
    if as_json:
        listed = [
            {
                "recipe": recipe.name,
                "summary": recipe.summary,
                "published": recipe.published,
                "source": recipe.source,
                "arch": recipe.model.arch,
                "epochs": recipe.train.epochs,
                "global_batch": recipe.train.global_batch,
                "lr": effective_lr(recipe),
                "train_size": recipe.data.train_size,
            }
            for recipe in recipes
        ]
        console.print_document("recipe list", {"recipes": listed})
        return
    rows = [
        (r.name, r.train.epochs, r.train.global_batch, r.data.train_size, r.summary, r.published or "none")
        for r in recipes
    ]
    console.table(
        ("recipe", "epochs", "batch", "px", "summary", "published result"),
        rows,
        spare=("px", "batch", "published result"),
    )


@app.command()
def show(
    recipe: Name,
    settings: options.Set = None,
    toml: Annotated[
        bool, typer.Option("--toml", help="Print it as a recipe file, with the meaning of each value.")
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Show every value of a recipe and where it came from.

    \b
    Examples:
      resnetctl recipe show fast
      resnetctl recipe show small --set train.epochs=20
    """
    from resnetctl.recipe import (
        effective_lr,
        effective_warmup_epochs,
        keys,
        load_recipe,
        recipe_to_dict,
        value_of,
    )
    from resnetctl.recipe_text import recipe_to_file

    if toml and as_json:
        raise typer.BadParameter("--toml and --json cannot be combined")
    found = load_recipe(recipe, overrides=options.overrides(settings))
    effective = {"lr": effective_lr(found), "warmup_epochs": effective_warmup_epochs(found)}
    if toml:
        console.out().print(recipe_to_file(found), end="")
    elif as_json:
        values = recipe_to_dict(found)
        about = {name: values.pop(name) for name in ("name", "summary", "notes", "published", "source", "origins")}
        facts = {"recipe": about.pop("name"), **about, "values": values, "effective": effective}
        console.print_document("recipe show", facts)
    else:
        rows = [(key, _show(value_of(found, key)), found.origins[key]) for key in keys()]
        rows.append(("learning rate in use", f"{effective['lr']:g}", "lr, and lr_rule for the global batch"))
        rows.append(("warm-up in use, epochs", f"{effective['warmup_epochs']:g}", "at most half of the run"))
        console.table(
            ("value", "is", "from"), rows, title=f"{found.name}: {found.summary}" if found.summary else found.name
        )
        _about(found)


def _about(recipe: Any) -> None:
    from resnetctl.errors import printable

    lines = [f"{recipe.published}." if recipe.published else "no published result."]
    lines += [f"source: {recipe.source}"] if recipe.source else []
    lines += [f"- {note}" for note in recipe.notes]
    console.out().print()
    for line in lines:
        console.out().print(printable(line))


def _show(value: Any) -> str:
    from resnetctl.recipe_values import toml_value

    return value if isinstance(value, str) else toml_value(value)


@app.command()
def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The new recipe's name, or its file's path.")],
    from_: Annotated[
        str,
        typer.Option("--from", autocompletion=complete.recipes, help="The recipe to copy: a name, or a .toml file."),
    ],
    settings: options.Set = None,
) -> None:
    """Write a copy of a recipe to edit, with the meaning of each value.

    \b
    Examples:
      resnetctl recipe new mine --from nvidia-90
    """
    import shlex
    from dataclasses import replace
    from pathlib import Path

    from resnetctl.errors import UsageError, printable
    from resnetctl.recipe import load_recipe
    from resnetctl.recipe_text import recipe_to_file

    found = load_recipe(from_, overrides=options.overrides(settings))
    path = Path(name if name.endswith(".toml") else f"{name}.toml")
    if path.stem.startswith("."):
        raise UsageError(f"{printable(name)!r} cannot be a recipe's name", hint="resnetctl recipe new mine --from fast")
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(recipe_to_file(replace(found, name=path.stem)))
    except FileExistsError:
        raise UsageError(f"{printable(path)} already exists", hint="choose another name") from None
    except OSError as error:
        raise UsageError(
            f"{printable(path)} cannot be written: {error.strerror}", hint="choose another place"
        ) from None
    console.out().print(printable(path))
    console.notice(f"to train with it: resnetctl train --recipe {printable(shlex.quote(str(path)))}")


@app.command()
def diff(a: Name, b: Name, as_json: options.Json = False) -> None:
    """Show the values that differ between two recipes.

    \b
    Examples:
      resnetctl recipe diff torchvision-v1 nvidia-90
    """
    from resnetctl.recipe import differences, load_recipe

    first, second = load_recipe(a), load_recipe(b)
    found = differences(first, second)
    if as_json:
        rows = [{"key": key, "a": mine, "b": theirs} for key, mine, theirs in found]
        console.print_document("recipe diff", {"a": first.name, "b": second.name, "differences": rows})
    elif found:
        console.table(("value", first.name, second.name), [(key, _show(x), _show(y)) for key, x, y in found])
    else:
        console.notice(f"{first.name} and {second.name} have the same values")
