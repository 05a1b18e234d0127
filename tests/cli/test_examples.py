"""Each example of the help and the README runs as it stands, where it needs no GPU, ImageNet, Docker or network."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.examples import SLOW, Place, help_examples, readme_blocks, why_not

EXAMPLES = [line for _, lines in help_examples() for line in lines]
SHOWN = [line for block in readme_blocks() for line in block if not line.startswith("pip ")]
HERE = [line for line in dict.fromkeys(EXAMPLES + SHOWN) if why_not(line) is None]
SMALL_FILE = 1 << 20


@pytest.mark.parametrize(("command", "lines"), list(help_examples()), ids=lambda v: v if isinstance(v, str) else "")
def test_every_command_shows_an_example_of_itself(command: str, lines: list[str]) -> None:
    assert any(f"resnetctl {command}" in line for line in lines) or command == "completion"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    place = Place(tmp_path_factory.mktemp("examples") / "place")
    place.make()
    yield place
    shutil.rmtree(place.folder)


@pytest.fixture
def place(made: Place, tmp_path: Path) -> Place:
    """A place like `made`, whose large files are the same: no command changes one that is there."""

    def copy(source: str, target: str) -> None:
        (shutil.copy2 if Path(source).stat().st_size < SMALL_FILE else os.link)(source, target)

    place = Place(tmp_path / "place")
    shutil.rmtree(place.folder)
    shutil.copytree(made.folder, place.folder, symlinks=True, copy_function=copy)
    return place


@pytest.mark.parametrize("line", [line for line in HERE if not SLOW.search(line)])
def test_an_example(line: str, place: Place) -> None:
    place(line)


@pytest.mark.slow
@pytest.mark.parametrize("line", [line for line in HERE if SLOW.search(line)])
def test_an_example_that_takes_minutes(line: str, place: Place) -> None:
    place(line)


def test_most_examples_can_be_run_here() -> None:
    assert sum(why_not(line) is None for line in EXAMPLES) > 0.7 * len(EXAMPLES)
