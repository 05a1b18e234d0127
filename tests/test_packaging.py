"""The wheel, and the quick start from it: in every Python that is here, and with the oldest packages that are promised.

    python -m pytest -m slow -rP tests/test_packaging.py    # downloads torch for each Python; 7 GB of disk at a time

RESNETCTL_PYTHONS names the interpreters, separated by colons; else pyenv's and those on PATH are taken.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1]
OLDEST = (3, 11)
QUICK = [
    "tests/data/images/test_decode.py",
    "tests/data/batches/test_batch.py",
    "tests/engine/test_trainer.py",
    "tests/engine/test_schedule.py",
    "tests/runs/test_checkpoint.py",
]
WARNING = re.compile(r"(?i)\bwarn|deprecat")


def project() -> dict[str, object]:
    return tomllib.loads((SOURCE / "pyproject.toml").read_text())["project"]


def pythons() -> list[Path]:
    """One interpreter of each version that is promised and here."""
    named = os.environ.get("RESNETCTL_PYTHONS")
    if named:
        return [Path(p) for p in named.split(":")]
    found = [*Path("~/.pyenv/versions").expanduser().glob("3.*/bin/python"), Path(sys.executable)]
    found += [Path(p) for v in range(11, 20) if (p := shutil.which(f"python3.{v}"))]
    by_version = {}
    for python in found:
        done = subprocess.run([python, "-c", "import sys, venv, ensurepip; print(*sys.version_info[:2])"], text=True,
                              capture_output=True)  # fmt: skip
        version = tuple(map(int, done.stdout.split()))
        if done.returncode == 0 and version >= OLDEST:
            by_version.setdefault(version, python)
    return [by_version[version] for version in sorted(by_version)]


def lower_bounds() -> list[str]:
    """Each dependency at the oldest version that is promised: `torch==2.11`."""
    dependencies = project()["dependencies"]
    assert isinstance(dependencies, list)
    return [re.sub(r"^([\w-]+)>=([\d.]+).*$", r"\1==\2", line) for line in dependencies]


def run(*line: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """The finished command, which must end with 0; a message of pip's cap on this machine is no matter here."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("RESNETCTL", "PYTHON", "VIRTUAL_ENV"))}
    done = subprocess.run([str(word) for word in line], cwd=cwd, env=env, capture_output=True, text=True)
    assert done.returncode == 0, f"{line}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    print(f"\n$ {' '.join(Path(word).name if i == 0 else str(word) for i, word in enumerate(line))}")
    print(done.stdout[-1500:] + done.stderr[-1500:])
    return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, SOURCE, cwd=folder)
    return next(folder.glob("*.whl"))


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    shutil.rmtree(tmp_path)  # an environment with torch has 6 GB


def quick_start(scripts: Path, place: Path) -> None:
    """The three commands, from a folder without the source, and not a warning among what they say."""
    program = scripts / "resnetctl"
    said = run(program, "prepare", "--source", "sample", cwd=place).stderr
    said += run(program, "train", "--epochs", "1", "--arch", "resnet18", cwd=place).stderr
    done = run(program, "eval", cwd=place)
    assert "top-1" in done.stdout
    assert not WARNING.search(said + done.stderr), said + done.stderr


def install(python: Path, place: Path, *requirements: str | Path) -> Path:
    """A new environment's folder of programs."""
    run(python, "-m", "venv", place / "venv", cwd=place)
    scripts = place / "venv" / "bin"
    run(scripts / "python", "-m", "pip", "install", "-q", "--no-compile", *requirements, cwd=place)
    run(scripts / "python", "-m", "pip", "check", cwd=place)
    listed = run(scripts / "python", "-m", "pip", "list", "--format=freeze", cwd=place).stdout
    ours = ("torch", "typer", "rich", "safetensors", "numpy", "pillow")
    print(python, *(line for line in listed.splitlines() if line.startswith(ours)))
    return scripts


@pytest.mark.slow
def test_the_wheel_is_small_and_has_completions_types_and_licences(wheel: Path) -> None:
    assert wheel.stat().st_size < 5_000_000
    names = zipfile.ZipFile(wheel).namelist()
    for end in (
        "resnetctl/py.typed",
        "share/bash-completion/completions/resnetctl",
        "share/zsh/site-functions/_resnetctl",
        "share/fish/vendor_completions.d/resnetctl.fish",
        "licenses/LICENSE",
    ):
        assert any(name.endswith(end) for name in names), end
    assert not any(name.startswith("tests") for name in names)


@pytest.mark.slow
@pytest.mark.parametrize("python", pythons(), ids=lambda python: f"{python.parent.parent.name}")
def test_the_quick_start_from_the_wheel(python: Path, wheel: Path, place: Path) -> None:
    quick_start(install(python, place, wheel), place)


@pytest.mark.slow
def test_the_oldest_packages_that_are_promised(wheel: Path, place: Path) -> None:
    scripts = install(pythons()[0], place, wheel, *lower_bounds())
    quick_start(scripts, place)
    tools = ("pytest", "hypothesis", "scikit-image", "scikit-learn")
    run(scripts / "python", "-m", "pip", "install", "-q", *tools, *lower_bounds(), cwd=place)
    run(scripts / "python", "-m", "pytest", "-q", *QUICK, cwd=SOURCE)


def test_the_version_is_the_same_wherever_it_is_written() -> None:
    from resnetctl import __version__

    label = re.search(r'image\.version="(.*)"', (SOURCE / "Dockerfile").read_text())
    assert label is not None
    assert label[1] == __version__
    released = re.search(r"^## \[(\d.*)\] - \d{4}-\d\d-\d\d$", (SOURCE / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert released is not None
    assert released[1] == __version__
