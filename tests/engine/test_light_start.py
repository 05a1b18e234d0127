"""What a run's start does without: modules that take a second each to import."""

import json
import sys
import tempfile
from pathlib import Path

from resnetctl.engine.setup import RunSetup
from resnetctl.engine.signals import StopRequest
from resnetctl.recipe import Override, load_recipe
from resnetctl.runs.folder import create_run
from tests.fixtures.small_index import pictures, write_index
from tests.process import call

HEAVY = ("torchvision", "torch._dynamo", "torch._inductor", "timm", "onnx", "matplotlib", "tensorboard")


def train_and_evaluate() -> None:
    """Print which of HEAVY a whole run on the CPU has imported."""
    import torch

    from resnetctl.data.index import Index
    from resnetctl.engine.events import Finished
    from resnetctl.engine.train_loop import train

    values = {"model.arch": "resnet18", "train.global_batch": 4, "train.epochs": 1, "data.train_size": 32}
    values |= {"data.val_size": 32, "data.val_resize": 32}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        setup = RunSetup(
            run=create_run(root / "runs", None, "small"),
            recipe=load_recipe("small", overrides=[Override(k, v, "test") for k, v in values.items()]),
            train=Index(write_index(root, pictures(2, 2))),
            val=Index(write_index(root, pictures(2, 1), split="val")),
            device=torch.device("cpu"),
            workers=1,
        )
        *_, last = train(setup, StopRequest())
    assert isinstance(last, Finished)
    assert last.top1 is not None
    print(json.dumps([name for name in HEAVY if name in sys.modules]))


def test_a_run_on_the_cpu_imports_neither_torchvision_nor_the_compiler():
    done = call(train_and_evaluate)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == []
