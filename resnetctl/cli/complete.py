"""Values offered at a TAB. None of these may import torch: a TAB has 100 ms."""

import re
from pathlib import Path

import typer

SHELLS = ("bash", "zsh", "fish", "powershell", "pwsh")

_RECIPES = Path(__file__).parents[1] / "recipes"
_SUMMARY = re.compile(r'^(?:summary|description)\s*=\s*"([^"\n]*)"', re.MULTILINE)

Items = list[tuple[str, str]]


def _starting(incomplete: str, items: Items) -> Items:
    return [item for item in items if item[0].startswith(incomplete)]


def recipes(incomplete: str) -> Items:
    """Built-in recipes with their summaries."""
    names = sorted(path.stem for path in _RECIPES.glob("*.toml") if path.stem.startswith(incomplete))
    return [(name, _summary(_RECIPES / f"{name}.toml")) for name in names]


def _summary(recipe: Path) -> str:
    found = _SUMMARY.search(recipe.read_text(encoding="utf-8"))
    return found[1] if found else ""


def runs(ctx: typer.Context, incomplete: str) -> Items:
    """`latest` and the names of run folders under `--runs`, newest first; and their checkpoint files.

    Before a letter is typed, only the newest run's files.
    """
    root = ctx.params["runs"]
    try:
        folders = [p for p in root.iterdir() if p.is_dir() and not p.is_symlink() and not p.name.startswith(".")]
        folders.sort(key=lambda p: -p.stat().st_mtime)
    except OSError:
        return []
    names = ["latest"] if (root / "latest").exists() else []
    files = [file for folder in (folders if incomplete else folders[:1]) for file in _checkpoints(folder)]
    return _starting(incomplete, [(name, "") for name in [*names, *(p.name for p in folders), *files]])


def _checkpoints(run: Path) -> list[str]:
    """The paths of a run's checkpoints, newest first."""
    return sorted(map(str, (run / "checkpoints").glob("step-*.safetensors")), reverse=True)


def devices(incomplete: str) -> Items:
    """Kinds of devices, and the NVIDIA devices that the kernel lists."""
    items = [
        ("auto", "the best that torch finds"),
        ("cpu", ""),
        ("cuda", "NVIDIA, or AMD with ROCm"),
        ("mps", "Apple"),
        ("xpu", "Intel"),
    ]
    numbers = sorted(int(p.name[6:]) for p in Path("/dev").glob("nvidia[0-9]*") if p.name[6:].isdigit())
    return _starting(incomplete, items + [(f"cuda:{n}", "") for n in numbers])


def architectures(incomplete: str) -> Items:
    """The models that can be trained."""
    from resnetctl.recipe_fields import ARCHITECTURES

    return _starting(incomplete, [(name, "") for name in ARCHITECTURES])


def weights(incomplete: str) -> Items:
    """Named weights; the shell completes files."""
    items = [
        ("imagenet1k-v1", "torchvision's first"),
        ("imagenet1k-v2", "torchvision's better ones"),
        ("hf:timm/", "on the Hugging Face Hub"),
    ]
    return _starting(incomplete, items)


def shells(incomplete: str) -> Items:
    """Shells that `resnetctl completion` supports."""
    return _starting(incomplete, [(shell, "") for shell in SHELLS])


def settings(incomplete: str) -> Items:
    """Keys of `--set`, each with its `=`; after it the values, if they are a few words."""
    from resnetctl.recipe import choices, keys

    key, equals, _ = incomplete.partition("=")
    if not equals:
        return _starting(incomplete, [(f"{key}=", "") for key in keys()])
    return _starting(incomplete, [(f"{key}={word}", "") for word in (choices(key) if key in keys() else ())])


def suites(incomplete: str) -> Items:
    """Evaluation suites, each but val with its `=`."""
    from resnetctl.suites import SUITES

    return _starting(incomplete, [(name if name == "val" else f"{name}=", text) for name, text in SUITES.items()])
