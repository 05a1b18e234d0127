"""A run of `finetune` from a file of weights, on a data set of a few pictures."""

from pathlib import Path

import torch

from resnetctl.data.index import Index
from resnetctl.engine.events import Finished, Notice
from resnetctl.engine.setup import RunSetup
from resnetctl.engine.signals import StopRequest
from resnetctl.engine.train_loop import train
from resnetctl.model.resnet import build_model
from resnetctl.recipe import ModelRecipe, Override, load_recipe
from resnetctl.runs.checkpoint import load_newest
from resnetctl.runs.folder import create_run
from tests.fixtures.small_index import pictures, write_index


def finetuned(root: Path, weights: Path, epochs: int) -> tuple[list[str], dict[str, torch.Tensor]]:
    """The notices of a run of `epochs`, and its tensors at the end."""
    values = {
        "model.arch": "resnet18",
        "model.weights": str(weights),
        "data.train_size": 32,
        "data.val_resize": 32,
        "data.val_size": 32,
        "train.epochs": epochs,
        "train.global_batch": 10,
        "train.precision": "fp32",
    }
    recipe = load_recipe("finetune", overrides=[Override(key, value, "test") for key, value in values.items()])
    setup = RunSetup(
        run=create_run(root / "runs", None, "finetune"),
        recipe=recipe,
        train=Index(write_index(root, pictures(2, 5))),
        val=Index(write_index(root, pictures(2, 3), split="val")),
        device=torch.device("cpu"),
        workers=0,
    )
    events = list(train(setup, StopRequest()))
    assert isinstance(events[-1], Finished)
    _, checkpoint = load_newest(setup.run.checkpoints, lambda commit, error: None)
    return [e.text for e in events if isinstance(e, Notice)], dict(checkpoint.tensors)


def test_the_last_layer_learns_first_and_the_statistics_stay(tmp_path: Path) -> None:
    torch.manual_seed(1)
    start = build_model(ModelRecipe(arch="resnet18"), 7).state_dict()
    weights = tmp_path / "start.pth"
    torch.save(start, weights)

    notices, early = finetuned(tmp_path / "early", weights, 3)
    assert any("last layer" in text for text in notices)  # 7 classes there, 2 here
    assert all(torch.equal(early[f"model.{k}"], t) for k, t in start.items() if not k.startswith("fc."))
    assert early["model.fc.bias"].any()

    _, late = finetuned(tmp_path / "late", weights, 5)
    assert not torch.equal(late["model.conv1.weight"], start["conv1.weight"])
    assert torch.equal(late["model.bn1.running_mean"], start["bn1.running_mean"])
