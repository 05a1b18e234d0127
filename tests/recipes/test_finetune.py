"""A run of `finetune` from a file of weights, on a data set of a few pictures."""

import math
from pathlib import Path

import pytest
import torch
import torchvision

from resnetctl.data.batches.order import key
from resnetctl.data.batches.train import TrainBatches, train_view
from resnetctl.data.index import Index
from resnetctl.engine.events import Finished, Notice
from resnetctl.engine.normalise import Normalise
from resnetctl.engine.setup import RunSetup
from resnetctl.engine.signals import StopRequest
from resnetctl.engine.train_loop import train
from resnetctl.model.resnet import build_model
from resnetctl.recipe import ModelRecipe, Override, Recipe, load_recipe
from resnetctl.runs.checkpoint import load_newest
from resnetctl.runs.folder import create_run
from tests.fixtures.small_index import pictures, write_index


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A resnet18 for 7 classes with statistics of its own."""
    torch.manual_seed(1)
    state = build_model(ModelRecipe(arch="resnet18", zero_init_residual=False), 7).state_dict()
    for name, tensor in state.items():
        if name.endswith("running_mean"):
            tensor.normal_(std=0.1)
        if name.endswith("running_var"):
            tensor.uniform_(0.8, 1.2)
    torch.save(state, tmp_path / "start.pth")
    return tmp_path / "start.pth"


def few(root: Path, weights: Path, **values: object) -> tuple[Recipe, Index]:
    """The recipe at 32 px with one step an epoch, and 10 pictures of 2 classes."""
    values = {
        "model.arch": "resnet18",
        "model.weights": str(weights),
        "data.train_size": 32,
        "data.val_resize": 32,
        "data.val_size": 32,
        "train.global_batch": 10,
        "train.precision": "fp32",
        "train.eval_every_epochs": 100,
        **{name.replace("__", "."): value for name, value in values.items()},
    }
    recipe = load_recipe("finetune", overrides=[Override(name, value, "test") for name, value in values.items()])
    return recipe, Index(write_index(root, pictures(2, 5)))


def finetuned(root: Path, recipe: Recipe, images: Index) -> tuple[list[str], dict[str, torch.Tensor]]:
    """The notices of a run, and its tensors at the end."""
    setup = RunSetup(
        run=create_run(root / "runs", None, "finetune"),
        recipe=recipe,
        train=images,
        val=Index(write_index(root, pictures(2, 3), split="val")),
        device=torch.device("cpu"),
        workers=0,
    )
    events = list(train(setup, StopRequest()))
    assert isinstance(events[-1], Finished)
    _, checkpoint = load_newest(setup.run.checkpoints, lambda commit, error: None)
    return [e.text for e in events if isinstance(e, Notice)], dict(checkpoint.tensors)


def by_hand(
    recipe: Recipe, weights: Path, images: Index, rates: list[float], frozen: int, norm: bool
) -> torch.nn.Module:
    """The same in torch alone: a step for each of `rates`, the first `frozen` ones of them with the last layer alone.

    With `norm` the statistics of batch norm stay as they are afterwards, too.
    """
    torch.manual_seed(key(recipe.train.seed) & 0xFFFFFFFF)
    new = build_model(recipe.model, 2)  # its last layer is drawn from the seed
    network = torchvision.models.resnet18(num_classes=2)
    start = torch.load(weights, weights_only=True)
    network.load_state_dict(
        {**start, "fc.weight": new.state_dict()["fc.weight"], "fc.bias": new.state_dict()["fc.bias"]}
    )
    network = network.to(memory_format=torch.channels_last)
    head = list(network.fc.parameters())
    backbone = [p for name, p in network.named_parameters() if not name.startswith("fc.")]
    o = recipe.optimizer
    sgd = torch.optim.SGD(
        [
            {"params": head[:1], "weight_decay": o.weight_decay, "factor": 1.0},
            {"params": head[1:], "weight_decay": 0.0, "factor": 1.0},
            {"params": [p for p in backbone if p.dim() > 1], "weight_decay": o.weight_decay, "factor": o.backbone_lr},
            {"params": [p for p in backbone if p.dim() == 1], "weight_decay": 0.0, "factor": o.backbone_lr},
        ],
        lr=1.0,
        momentum=0.9,
        nesterov=True,
    )
    train_batches = TrainBatches(train_view(recipe, images, 10))
    # the pixels to the same bits: next to a ReLU's kink the last one decides
    normalise = Normalise(recipe.data.mean, recipe.data.std, torch.device("cpu"))
    for step, rate in enumerate(rates):
        for group in sgd.param_groups:
            group["lr"] = rate * group["factor"]
        network.train(step >= frozen and not norm)
        for p in backbone:
            p.requires_grad_(step >= frozen)
        batch = train_batches[step]
        loss = torch.nn.functional.cross_entropy(
            network(normalise(batch.images)), batch.labels, label_smoothing=recipe.train.label_smoothing
        )
        sgd.zero_grad()
        loss.backward()
        sgd.step()
    return network


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("frozen", [0, 2])
def test_a_run_is_that_of_a_loop_by_hand(frozen: int, norm: bool, tmp_path: Path, weights: Path) -> None:
    recipe, images = few(
        tmp_path,
        weights,
        train__epochs=5,
        train__freeze="backbone" if frozen else "nothing",
        train__freeze_epochs=float(frozen),
        train__freeze_norm=norm,
        optimizer__lr=0.02,
        optimizer__lr_batch=10,
        optimizer__backbone_lr=0.5,
        schedule__warmup_epochs=1.0,
    )
    _, tensors = finetuned(tmp_path / "run", recipe, images)
    rates = [0.0, *(0.02 * (1 + math.cos(math.pi * n / 4)) / 2 for n in range(4))]
    expected = by_hand(recipe, weights, images, rates, frozen, norm).state_dict()
    for name, tensor in expected.items():
        torch.testing.assert_close(
            tensors[f"model.{name}"], tensor, atol=2e-5, rtol=1e-4, msg=lambda m, n=name: f"{n}: {m}"
        )


def test_the_last_layer_learns_first(tmp_path: Path, weights: Path) -> None:
    frozen = load_recipe("finetune").train.freeze_epochs
    start = torch.load(weights, weights_only=True)

    notices, early = finetuned(tmp_path / "early", *few(tmp_path, weights, train__epochs=int(frozen)))
    assert any("last layer" in text for text in notices)  # 7 classes there, 2 here
    assert all(torch.equal(early[f"model.{k}"], t) for k, t in start.items() if not k.startswith("fc."))
    assert early["model.fc.bias"].any()

    _, late = finetuned(tmp_path / "late", *few(tmp_path, weights, train__epochs=int(frozen) + 2))
    assert not torch.equal(late["model.conv1.weight"], start["conv1.weight"])
