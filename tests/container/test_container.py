"""The Dockerfile built and used as the README says, without a Docker engine.

    python -m pytest -m slow -rP tests/container     # as root, with buildah, debootstrap and 15 GB of disk; 10 minutes

RESNETCTL_CONTAINERS names a folder that keeps the images for the next time.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import resnetctl
from tests.container.engine import Engine

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        os.geteuid() != 0 or not (shutil.which("buildah") and shutil.which("debootstrap")),
        reason="needs root, buildah and debootstrap",
    ),
]
SOURCE = Path(__file__).parents[2]
OWN, OTHER = 1000, 4242
SHORT = ("--arch", "resnet18", "--max-steps", "3")


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    kept = os.environ.get("RESNETCTL_CONTAINERS")
    engine = Engine(Path(kept) if kept else tmp_path_factory.mktemp("containers"))
    engine.make_base(["torch>=2.11", "torchvision>=0.26"])
    engine.build(SOURCE)
    yield engine
    if not kept:
        engine.buildah("rm", "--all")
        shutil.rmtree(engine.folder)


@pytest.fixture
def mounts(tmp_path: Path) -> dict[Path, str]:
    """`mkdir -p data runs` by the image's user."""
    tmp_path.chmod(0o755)
    return {_folder(tmp_path / "data", OWN): "/data", _folder(tmp_path / "runs", OWN): "/runs"}


def _folder(path: Path, owner: int) -> Path:
    path.mkdir()
    os.chown(path, owner, owner)
    return path


def _in(mounts: dict[Path, str], there: str) -> Path:
    return next(here for here, place in mounts.items() if place == there)


def _owners(folder: Path) -> set[int]:
    return {path.stat().st_uid for path in folder.rglob("*")}


def _three_commands(engine: Engine, mounts: dict[Path, str], user: str | None) -> None:
    for line in (["prepare", "--source", "sample"], ["train", "--epochs", "1", "--arch", "resnet18"], ["eval"]):
        done = engine.run(*line, mounts=mounts, user=user)
        assert done.returncode == 0, done.stderr
    assert "top-1" in done.stdout


def test_the_sample_as_the_images_own_user(engine: Engine, mounts: dict[Path, str]) -> None:
    _three_commands(engine, mounts, None)
    assert _owners(_in(mounts, "/data")) | _owners(_in(mounts, "/runs")) == {OWN}


def test_the_sample_as_a_user_whom_the_image_does_not_know(engine: Engine, mounts: dict[Path, str]) -> None:
    for folder in mounts:
        os.chown(folder, OTHER, OTHER)
    _three_commands(engine, mounts, f"{OTHER}:{OTHER}")
    assert _owners(_in(mounts, "/data")) | _owners(_in(mounts, "/runs")) == {OTHER}


@pytest.mark.parametrize("user", [None, f"{OTHER}:{OTHER}"])
def test_the_model_is_compiled_on_the_cpu(engine: Engine, mounts: dict[Path, str], user: str | None) -> None:
    for folder in mounts:
        os.chown(folder, *([OWN] * 2 if user is None else [OTHER] * 2))
    engine.run("prepare", "--source", "sample", mounts=mounts, user=user)
    done = engine.run("train", *SHORT, "--set", "train.compile=on", mounts=mounts, user=user)
    assert done.returncode == 0, done.stderr
    assert "compile" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_that_docker_made_is_told_with_the_cure(engine: Engine, mounts: dict[Path, str]) -> None:
    os.chown(_in(mounts, "/data"), 0, 0)
    done = engine.run("prepare", "--source", "sample", mounts=mounts)
    assert done.returncode == 1
    assert "Permission denied" in done.stderr
    assert "mkdir -p data runs" in done.stderr
    assert '--user "$(id -u):$(id -g)"' in done.stderr


def test_images_mounted_apart_and_gone_the_next_time(engine: Engine, mounts: dict[Path, str], tmp_path: Path) -> None:
    pictures = {_pictures(tmp_path / "pics"): "/pics:ro"}
    assert engine.run("prepare", "/pics", mounts=mounts | pictures).returncode == 0
    done = engine.run("train", *SHORT, mounts=mounts)
    assert done.returncode == 3, done.stderr
    assert "/pics no longer exists" in done.stderr
    assert "-v" in done.stderr
    assert [path for path in _in(mounts, "/runs").iterdir() if path.is_dir()] == []
    assert engine.run("train", *SHORT, mounts=mounts | pictures).returncode == 0


def _pictures(folder: Path) -> Path:
    draw = np.random.default_rng(0)
    for split, count in ("train", 40), ("val", 8):
        for name in "cat", "dog":
            (folder / split / name).mkdir(parents=True)
            for i in range(count):
                picture = Image.fromarray(draw.integers(0, 256, (80, 80, 3), dtype=np.uint8))
                picture.save(folder / split / name / f"{i}.jpg")
    return folder


def test_the_image_says_what_it_is_and_carries_no_package_lists(engine: Engine) -> None:
    config = engine.config()
    assert config["User"] == "resnetctl"
    assert config["Labels"]["org.opencontainers.image.version"] == resnetctl.__version__
    assert config["Labels"]["org.opencontainers.image.licenses"] == "MIT"
    assert "org.opencontainers.image.source" in config["Labels"]
    shell = "ls /var/lib/apt/lists /var/cache/apt/archives; complete -p resnetctl; type gcc g++"
    done = engine.run("-ic", shell, mounts={}, entrypoint=["bash"])
    assert ".deb" not in done.stdout
    assert "Packages" not in done.stdout
    assert "complete -F" in done.stdout
    assert "g++ is" in done.stdout
