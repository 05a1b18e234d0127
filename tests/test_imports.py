"""Who may import whom, and that the command line starts without the heavy packages."""

import ast
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

import resnetctl

PACKAGE = Path(resnetctl.__file__).parent
HEAVY = ("torch", "torchvision", "numpy", "safetensors", "PIL", "matplotlib", "onnx", "pyarrow")

# Each part of the package and the parts it may import, at module level and inside functions alike.
BASE = {
    "cgroups",
    "container",
    "errors",
    "files",
    "progress",
    "units",
    "hardware",
    "parallel",
    "download",
    "typed_json",
    "unused_gpu",
}
RECIPE = {"recipe", "recipe_fields", "recipe_published", "recipe_text", "recipe_values"}
BELOW_ENGINE = BASE | RECIPE | {"distributed", "model", "data", "runs"}
ALLOWED = {
    "__init__": set(),
    "__main__": {"cli"},
    "errors": set(),
    "progress": set(),
    "units": set(),
    "files": {"errors"},
    "cgroups": set(),
    "container": set(),
    "unused_gpu": {"cgroups", "container"},
    "hardware": {"cgroups", "errors", "files"},
    "typed_json": {"errors"},
    "parallel": {"errors"},
    "download": {"errors", "files", "progress"},
    "distributed": BASE,
    "recipe": BASE | RECIPE,
    "recipe_fields": BASE | RECIPE,
    "recipe_published": BASE | RECIPE,
    "recipe_text": BASE | RECIPE,
    "recipe_values": BASE,
    "runs": BASE | RECIPE,
    "model": BASE | RECIPE,
    "data": BASE | RECIPE,
    "engine": BELOW_ENGINE | {"suites"},
    "suites": BASE | RECIPE | {"data"},
    "report": BASE | RECIPE | {"data", "runs", "suites"},
    "cli": BELOW_ENGINE | {"engine", "suites", "report"},
}
# The rooms of `data`, in the order of a sample's way: each may import those before it, and what lies at data's top.
DATA_ROOMS = ("archives", "imagenet", "images", "sources", "batches", "copies")
LIGHT = {
    "cgroups",
    "container",
    "unused_gpu",
    "__init__",
    "__main__",
    "cli",
    "errors",
    "recipe",
    "recipe_fields",
    "recipe_published",
    "recipe_text",
    "recipe_values",
    "files",
    "progress",
    "units",
    "report",
    "hardware",
    "typed_json",
}

# plain dataclasses: what the engine says and the report shows; a table of names
LIGHT_MODULES = {"resnetctl.engine.events", "resnetctl.data.sources", "resnetctl.suites"}


def part_of(module: str) -> str:
    """`resnetctl.data.index` belongs to `data`, `resnetctl` itself to `__init__`."""
    return [*module.split("."), "__init__"][1]


def modules() -> Iterator[tuple[Path, str]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(("resnetctl", *path.relative_to(PACKAGE).with_suffix("").parts))
        yield path, name.removesuffix(".__init__") if name != "resnetctl.__init__" else "resnetctl"


def imported(tree: ast.AST, module: str, is_package: bool) -> Iterator[tuple[str, ast.stmt]]:
    """Absolute names of all that `tree` imports; `from resnetctl import x` counts as `resnetctl.x`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = module.split(".") if is_package else module.split(".")[:-1]
                base = ".".join(package[: len(package) - node.level + 1] + ([base] if base else []))
            for alias in node.names:
                submodule = PACKAGE.parent / base.replace(".", "/") / alias.name
                is_module = submodule.is_dir() or submodule.with_suffix(".py").exists()
                yield f"{base}.{alias.name}" if is_module else base, node


def at_start(tree: ast.Module) -> Iterator[ast.stmt]:
    """The statements that run when the module is imported: all but functions and `if TYPE_CHECKING:`."""
    waiting: list[ast.stmt] = list(tree.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            waiting += node.orelse
            continue
        yield node
        waiting += [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt)]
        for handler in getattr(node, "handlers", []):
            waiting += handler.body


def layer_faults(source: str, module: str, is_package: bool = False) -> list[str]:
    part = part_of(module)
    if part not in ALLOWED:
        return [f"{module}: say in ALLOWED what {part} may import"]
    faults = []
    for name, node in imported(ast.parse(source), module, is_package):
        if name.split(".")[0] != "resnetctl":
            continue
        other = part_of(name)
        if other not in (part, "__init__") and other not in ALLOWED[part]:
            faults.append(f"{module}:{node.lineno} imports {name}: {part} may not import {other}")
        rooms = data_room(module), data_room(name)
        if None not in rooms and DATA_ROOMS.index(rooms[0]) < DATA_ROOMS.index(rooms[1]):
            faults.append(f"{module}:{node.lineno} imports {name}: {rooms[1]} comes after {rooms[0]}")
    return faults


def data_room(module: str) -> str | None:
    """`resnetctl.data.images.decode` lies in `images`, `resnetctl.data.index` in no room."""
    parts = module.split(".")
    return parts[2] if parts[1:2] == ["data"] and len(parts) > 2 and parts[2] in DATA_ROOMS else None


def heavy_faults(source: str, module: str) -> list[str]:
    if part_of(module) not in LIGHT and module not in LIGHT_MODULES:
        return []
    starting = list(at_start(ast.parse(source)))
    faults = []
    for node in starting:
        if isinstance(node, ast.Import | ast.ImportFrom):
            for name, _ in imported(ast.Module([node], []), module, is_package=False):
                light = part_of(name) in LIGHT or name in LIGHT_MODULES
                heavy_part = name.split(".")[0] == "resnetctl" and not light
                if name.split(".")[0] in HEAVY or heavy_part:
                    faults.append(f"{module}:{node.lineno} imports {name} at module level")
    return faults


@pytest.mark.parametrize(("path", "module"), list(modules()), ids=lambda value: value if isinstance(value, str) else "")
def test_layers(path, module):
    source = path.read_text()
    assert layer_faults(source, module, path.name == "__init__.py") == []
    assert heavy_faults(source, module) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("resnetctl.data.index", "from resnetctl.model import resnet"),
        ("resnetctl.data.index", "def f():\n    import resnetctl.runs.checkpoint"),
        ("resnetctl.engine.trainer", "from resnetctl.cli import console"),
        ("resnetctl.engine.trainer", "from resnetctl.cli import render"),
        ("resnetctl.model.resnet", "from ..data import index"),
        ("resnetctl.errors", "from resnetctl.files import write_atomically"),
        ("resnetctl.hardware", "def f():\n    from resnetctl.engine.device import available"),
        ("resnetctl.novelty", "import os"),
    ],
)
def test_a_wrong_layer_is_seen(module, source):
    assert layer_faults(source, module) != []


@pytest.mark.parametrize(
    "source",
    [
        "import torch.nn",
        "from numpy import array",
        "try:\n    import torch\nexcept ImportError:\n    torch = None",
        "try:\n    pass\nexcept ImportError:\n    import torch",
        "class A:\n    import safetensors",
        "from resnetctl.data.index import Index",
        "from resnetctl import engine",
    ],
)
def test_a_heavy_import_is_seen(source):
    assert heavy_faults(source, "resnetctl.cli.train") != []
    assert heavy_faults("def f():\n" + textwrap.indent(source, "    "), "resnetctl.cli.train") == []


def test_types_may_name_what_is_heavy():
    assert (
        heavy_faults("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch", "resnetctl.cli.x") == []
    )


def loaded_by(code: str, **env: str) -> set[str]:
    """The top-level packages in `sys.modules` after `code` in a fresh interpreter."""
    names = "*{m.split('.')[0] for m in sys.modules}"
    report = f"import atexit, sys; atexit.register(lambda: print('\\n', {names}, file=sys.stderr))\n"
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("RESNETCTL_", "_RESNETCTL_"))}
    done = subprocess.run(
        [sys.executable, "-c", report + code], capture_output=True, text=True, env={**clean, **env}, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return set(done.stderr.splitlines()[-1].split())


RUN = "import sys; sys.argv = ['resnetctl', *{args!r}]\nfrom resnetctl.cli.app import main; main()"


def test_the_report_sees_a_heavy_package():
    assert "numpy" in loaded_by("import numpy")


@pytest.mark.parametrize(
    "args", [["--help"], ["--version"], ["train", "--help"], ["recipe", "list"], ["completion", "zsh"]]
)
def test_light_commands_load_nothing_heavy(args):
    loaded = loaded_by(RUN.format(args=args))
    assert "typer" in loaded
    assert loaded.isdisjoint(HEAVY)
    if "--help" in args:
        assert "rich" not in loaded  # half of the time


@pytest.mark.parametrize(
    "words",
    [[], ["train", "--recipe"], ["train", "--set"], ["train", "--device"], ["eval", "--run"], ["prepare", "--source"]],
)
def test_a_tab_loads_nothing_heavy(words):
    env = {"_RESNETCTL_COMPLETE": "fish", "_RESNETCTL_WORDS": "\n".join(["resnetctl", *words]), "_RESNETCTL_WORD": ""}
    loaded = loaded_by(RUN.format(args=[]), **env)
    assert "typer" in loaded
    assert loaded.isdisjoint((*HEAVY, "rich"))


def test_cli_modules_load_nothing_heavy():
    names = [name for _, name in modules() if part_of(name) in LIGHT and not name.endswith("__main__")]
    assert "resnetctl.cli.app" in names
    loaded = loaded_by("import importlib\n" + "".join(f"importlib.import_module({name!r})\n" for name in names))
    assert loaded.isdisjoint(HEAVY)
