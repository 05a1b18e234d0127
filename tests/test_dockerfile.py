"""What can be known of the image without building it."""

import json
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def instructions() -> list[tuple[str, str]]:
    """`(instruction, its text)` of the Dockerfile, continued lines joined and comments left out."""
    lines = [line for line in (REPOSITORY / "Dockerfile").read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in joined.splitlines() if line.strip()]


def all_of(instructions: list[tuple[str, str]], name: str) -> list[str]:
    return [text for instruction, text in instructions if instruction == name]


def test_base_image_is_pinned_and_can_be_chosen(instructions):
    name, text = instructions[0]
    assert name == "ARG"
    assert re.fullmatch(r"BASE_IMAGE=pytorch/pytorch:\d+\.\d+\.\d+-cuda\d+\.\d+-cudnn\d+-runtime", text)
    assert all_of(instructions, "FROM") == ["${BASE_IMAGE}"]


def test_base_image_has_a_torch_that_we_support(instructions):
    torch = tuple(map(int, re.search(r":(\d+)\.(\d+)", instructions[0][1]).groups()))
    least = tuple(map(int, re.search(r'"torch>=(\d+)\.(\d+)', (REPOSITORY / "pyproject.toml").read_text()).groups()))
    assert torch >= least


def test_runs_as_a_user_with_volumes_of_its_own(instructions):
    assert all_of(instructions, "USER") == ["resnetctl"]
    (volumes,) = all_of(instructions, "VOLUME")
    assert json.loads(volumes) == ["/data", "/runs"]
    environment = " ".join(all_of(instructions, "ENV"))
    assert "RESNETCTL_DATA=/data" in environment
    assert "RESNETCTL_RUNS=/runs" in environment
    names = [name for name, _ in instructions]
    assert any("chown resnetctl: /data /runs" in text for text in all_of(instructions, "RUN"))
    assert max(i for i, name in enumerate(names) if name == "RUN") < names.index("VOLUME")  # later changes are lost


def test_the_program_is_the_entry_point(instructions):
    assert [json.loads(text) for text in all_of(instructions, "ENTRYPOINT")] == [["resnetctl"]]


def test_run_lines_are_sound_shell(instructions):
    for text in all_of(instructions, "RUN"):
        done = subprocess.run(["sh", "-n", "-c", text], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def test_what_is_copied_exists_and_is_sent_to_the_builder(instructions):
    ignored, *kept = (REPOSITORY / ".dockerignore").read_text().split()
    assert ignored == "*"
    for text in all_of(instructions, "COPY"):
        *sources, _ = text.split()
        for source in sources:
            assert (REPOSITORY / source).exists()
            assert f"!{source.split('/')[0]}" in kept


def test_the_copied_files_are_enough_to_install(instructions, tmp_path):
    """Build the package's metadata from just these files."""
    for source in all_of(instructions, "COPY")[0].split()[:-1]:
        (tmp_path / source).write_bytes((REPOSITORY / source).read_bytes())
    (tmp_path / "resnetctl").symlink_to(REPOSITORY / "resnetctl")
    project = tomllib.loads((tmp_path / "pyproject.toml").read_text())["project"]
    named = [*project["license-files"], project["readme"]]
    assert len(named) >= 2
    for name in named:
        assert (tmp_path / name).is_file()
