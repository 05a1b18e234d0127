"""The README from the top, in a clean environment: each block of commands that needs no GPU, ImageNet, Docker, network.

python -m pytest -m slow -rP tests/test_readme.py    # installs from a fresh clone; about 15 minutes on 2 cores
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.examples import README, SOURCE, Place, readme_blocks, why_not

BLOCKS = [block for block in readme_blocks() if all(why_not(line) is None for line in block)]


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A clone of what is committed, with an environment `venv` in it that holds pip alone."""
    folder = tmp_path_factory.mktemp("readme") / "clone"
    subprocess.run(["git", "clone", "-q", SOURCE, folder], check=True)
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    yield folder
    shutil.rmtree(folder)  # with torch it has 6 GB


def install(clone: Path, line: str) -> None:
    """`pip install …` in the clone, into its environment."""
    env = os.environ | {"PATH": f"{clone}/venv/bin:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", line], cwd=clone, env=env, capture_output=True, text=True)
    assert done.returncode == 0, f"{line}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"


@pytest.mark.slow
@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block[-1][:40])
def test_a_block_of_the_readme(block: list[str], clone: Path, tmp_path: Path) -> None:
    program = clone / "venv" / "bin" / "resnetctl"
    if not program.exists():
        install(clone, "pip install .")
    place = Place(tmp_path / "place", program)
    prepares = any("resnetctl prepare" in line for line in block)
    if not prepares:
        place("resnetctl prepare --source sample")
    for line in block:
        print(f"$ {line}")
        if line.startswith("pip "):
            install(clone, line)
            continue
        done = place(line)
        print(done.stderr[-1500:] + done.stdout[-1500:])


def test_image_files_and_links_of_the_readme_are_there() -> None:
    text = README.read_text(encoding="utf-8")
    headings = {
        re.sub(r"[^\w\- ]", "", line.lstrip("# ").lower()).replace(" ", "-")
        for line in text.splitlines()
        if line.startswith("#")
    }
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if target.startswith("#"):
            assert target[1:] in headings, target
        elif not target.startswith("http"):
            assert (SOURCE / target).exists(), target


def test_the_first_block_is_the_quick_start() -> None:
    assert BLOCKS[0][0] == "pip install ."
    assert [line.split()[1] for line in BLOCKS[0][1:]] == ["prepare", "train", "eval"]
