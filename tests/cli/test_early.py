"""What is wrong is told before torch is imported, which takes seconds."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from resnetctl.data.prepare import prepare
from resnetctl.runs.checkpoint import save_checkpoint
from resnetctl.runs.folder import create_run
from tests.fixtures.checkpoints import checkpoint

PROGRAM = """
import atexit, sys
slow = ("torch", "torchvision", "PIL", "safetensors", "torchcodec")
atexit.register(lambda: print(*[name for name in slow if name in sys.modules], file=sys.stdout))
from resnetctl.cli.app import main
main()
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A working folder with a prepared data set and a run."""
    folder = tmp_path_factory.mktemp("early")
    prepare(folder / "data", kind="sample")
    save_checkpoint(create_run(folder / "kept", "run", "small").checkpoints, checkpoint(31))
    return folder


def refused(place: Path, *args: str) -> tuple[int, str, list[str]]:
    """Exit code, what was said, and which slow packages were imported."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("RESNETCTL_")}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *args], cwd=place, env=clean, capture_output=True, text=True, timeout=60
    )
    return done.returncode, done.stderr, done.stdout.split()


WRONG = [
    (["train", "--recipe", "smal"], 2, "no recipe is called smal"),
    (["train", "--device", "foo"], 2, "unknown device 'foo'"),
    (["train", "--device", "gpu"], 2, "did you mean cuda?"),
    (["train", "--data", "nowhere"], 3, "no data set is prepared in nowhere"),
    (["train", "--set", "train.epochs=0"], 2, "train.epochs"),
    (["train", "--set", "data.val_size=2000"], 2, "data.val_size"),
    (["train", "--arch", "resnet51"], 2, "model.arch"),
    (["train", "--name", "../x"], 2, "cannot be a run's name"),
    (["train", "--gpus", "many"], 2, "--gpus many: a number from 1, or all"),
    (["train", "small"], 2, "unexpected argument 'small' (a recipe? --recipe small)"),
    (["train", "resnet18"], 2, "unexpected argument 'resnet18' (a model? --arch resnet18)"),
    (["train", "mine"], 2, "unexpected argument 'mine' (a run to resume? --resume mine)"),
    (["train", "--resume"], 1, "there is no run in runs"),
    (["train", "--resume", "--runs", "kept", "--set", "train.epochs=0"], 2, "train.epochs"),
    (["eval"], 1, "there is no run in runs"),
    (["eval", "no/such.safetensors"], 1, "there is no checkpoint no/such.safetensors"),
    (["eval", "--device", "cpux"], 2, "unknown device 'cpux'"),
    (["eval", "--runs", "kept", "--data", "nowhere"], 3, "no data set is prepared in nowhere"),
    (["plan", "--recipe", "smal"], 2, "no recipe is called smal"),
    (["plan", "--data", "nowhere"], 3, "no data set is prepared in nowhere"),
    (["bench", "--set", "train.epoch=1"], 2, "train.epoch"),
    (["bench", "--device", "foo"], 2, "unknown device 'foo'"),
    (["checkpoint", "list"], 1, "there is no run in runs"),
    (["recipe", "show", "smal"], 2, "no recipe is called smal"),
]


@pytest.mark.parametrize(("args", "code", "message"), WRONG, ids=[" ".join(args) for args, _, _ in WRONG])
def test_a_refusal_needs_no_torch(args, code, message, place):
    found, said, imported = refused(place, *args)
    assert (found, imported) == (code, []), said
    assert message in said
    assert "\nhint: " in said


@pytest.mark.parametrize("args", [("checkpoint", "list", "--runs", "kept"), ("checkpoint", "verify", "--runs", "kept")])
def test_a_look_at_checkpoints_needs_no_torch(args, place):
    code, said, printed = refused(place, *args)
    assert (code, printed[-1]) == (0, "ok"), said
