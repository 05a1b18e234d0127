"""Which run is trained, and that nobody else can take it from the first look into its folder on."""

from contextlib import ExitStack
from pathlib import Path

import pytest
import torch

from resnetctl.data.dataset import load_dataset
from resnetctl.data.prepare import prepare
from resnetctl.distributed.group import ALONE
from resnetctl.engine import run_choice
from resnetctl.engine.run_choice import RunChoice
from resnetctl.engine.setup import TrainRequest
from resnetctl.files import folder_lock
from resnetctl.recipe import Override, load_recipe
from resnetctl.runs.checkpoint import save_checkpoint
from resnetctl.runs.folder import create_run
from resnetctl.runs.metadata import TrainedOn
from tests.fixtures.checkpoints import checkpoint
from tests.process import call

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("data")
    prepare(root, kind="sample")
    return root


def choice(data: Path, runs: Path, lock: ExitStack, undo: ExitStack, **request: object) -> RunChoice:
    given = {"resume": True, "which": "run", "name": None, "recipe": None, "overrides": [], "allow_changes": False}
    wanted = TrainRequest(**{"data": data, "runs": runs, "device": "cpu", **given, **request})
    return RunChoice(wanted, load_dataset(data), CPU, ALONE, lock, undo, lambda text: None, lambda text: None)


@pytest.fixture
def runs(data, tmp_path) -> Path:
    """A run that stands after step 5."""
    run = create_run(tmp_path, "run", "small")
    info = load_dataset(data).train().info
    save_checkpoint(
        run.checkpoints,
        checkpoint(
            5,
            classes=info.classes,
            class_names=info.class_names,
            data=TrainedOn(train=info.fingerprint, val=None, images=2000),
            recipe=load_recipe("small", overrides=[Override("model.arch", "resnet18", "test")]),
        ),
    )
    return tmp_path


def lock_now(folder: str) -> None:
    with folder_lock(Path(folder), "training"):
        print("taken")


def test_a_second_resume_cannot_slip_in_between_the_first_look_and_the_training(data, runs, monkeypatch):
    """Another process tries at each look into the folder, and between any two of them."""
    tried = []

    def look(name):
        real = getattr(run_choice, name)

        def looked(*args, **options):
            tried.append(call(lock_now, runs / "run"))
            return real(*args, **options)

        monkeypatch.setattr(run_choice, name, looked)

    for name in ("load_start", "resumed_recipe", "check_data", "sweep_temporary_files"):
        look(name)
    with ExitStack() as lock, ExitStack() as undo:
        choice(data, runs, lock, undo).decide([])
        tried.append(call(lock_now, runs / "run"))
    assert len(tried) == 6
    for other in tried:
        assert "taken" not in other.stdout
        assert "another resnetctl is training" in other.stderr
    assert "taken" in call(lock_now, runs / "run").stdout


def test_a_run_that_is_branched_off_leaves_the_first_one_free(data, runs):
    with ExitStack() as lock, ExitStack() as undo:
        run, _, start = choice(data, runs, lock, undo, name="second").decide([])
        undo.pop_all()
        assert (run.name, start.metadata.step) == ("second", 5)
        assert "taken" in call(lock_now, runs / "run").stdout
        assert "taken" not in call(lock_now, runs / "second").stdout
