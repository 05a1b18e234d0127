"""Private parts of Typer and its bundled Click, all in one place for the sake of other releases.

The heavier ones are imported on use, so that `--help` does not pay for them.
"""

from typing import Any

from typer._click.exceptions import ClickException, NoArgsIsHelpError, NoSuchOption  # noqa: F401
from typer._click.exceptions import UsageError as WrongCommandLine  # noqa: F401
from typer._click.formatting import HelpFormatter  # noqa: F401
from typer.core import TyperGroup, TyperOption  # noqa: F401


def split_words(line: str) -> list[str]:
    """The words of an unfinished shell `line`, quotes removed."""
    from typer._click.shell_completion import split_arg_string

    return split_arg_string(line)


def completion_of(root: Any, words: list[str], word: str) -> tuple[Any, Any, str] | None:
    """The completion target after `words`: `(context, the parameter or command, the beginning of its value)`.

    None after a word that is not a command.
    """
    from typer._click.shell_completion import _resolve_context, _resolve_incomplete

    context = _resolve_context(root, {}, root.name, words)
    if getattr(context, "_protected_args", None):
        return None
    target, begun = _resolve_incomplete(context, words, word)
    return context, target, begun


def path_kind(target: Any) -> str | None:
    """`file` or `dir` if `target` is a parameter whose values only the shell can offer, else None."""
    from typer.models import TyperPath

    if getattr(target, "_custom_shell_complete", None) is not None:
        return None
    kind = getattr(target, "type", None)
    return ("file" if kind.file_okay else "dir") if isinstance(kind, TyperPath) else None
