"""Batch norm over all ranks: what one process computes of the whole batch, on any number of ranks."""

import json
import os
from itertools import repeat

import pytest
import torch
from torch import nn

from resnetctl.data.batches.batch import Batch
from resnetctl.distributed.group import joined
from resnetctl.distributed.sync_norm import synchronise_norms
from resnetctl.distributed.world import read_world
from resnetctl.engine.trainer import Trainer
from resnetctl.recipe import Override, load_recipe
from tests.distributed import ranks

CPU = torch.device("cpu")
BATCH = 16


def share(whole: torch.Tensor, rank: int, size: int) -> torch.Tensor:
    each = len(whole) // size
    return whole[rank * each : (rank + 1) * each]


def layer() -> None:
    """Print output, gradient and statistics of this rank's part."""
    with joined(read_world(os.environ)) as group:
        images = torch.randn(BATCH, 3, 5, 7, generator=torch.Generator().manual_seed(0)) * 4 + 10
        mine = share(images, group.rank, group.size).requires_grad_()
        norm = nn.BatchNorm2d(3)
        (synchronise_norms(nn.Sequential(norm), CPU) if group.size > 1 else norm).train()
        output = norm(mine)
        weights = share(torch.arange(images.numel()).float().view_as(images).sin(), group.rank, group.size)
        (output * weights).sum().backward()
        gradient = [group.all_sum(p.grad.clone()).tolist() for p in norm.parameters()]
        buffers = [b.tolist() for b in norm.buffers()]
        print(json.dumps([output.flatten().tolist(), mine.grad.flatten().tolist(), gradient, buffers]))


def joined_up(outputs: list[str]) -> torch.Tensor:
    """The parts of the ranks one after the other, and what all have in common."""
    parts = [json.loads(output) for output in outputs]
    assert all(part[2:] == parts[0][2:] for part in parts)
    values = [v for place in (0, 1) for part in parts for v in part[place]]
    return torch.tensor([*values, *(v for group in parts[0][2:] for row in group for v in torch.tensor(row).flatten())])


def test_the_layer_is_that_of_the_whole_batch():
    (alone,), two = ranks.results(layer, 1), ranks.results(layer, 2)
    torch.testing.assert_close(joined_up(two), joined_up([alone]), atol=1e-5, rtol=1e-5)


def train(sync_bn: str) -> None:
    """Print the losses of three steps and the sum of the squares of the weights after them."""
    values: dict[str, object] = {"model.arch": "resnet18", "train.global_batch": BATCH, "train.precision": "fp32"}
    values["train.sync_bn"] = sync_bn == "True"
    recipe = load_recipe("small", overrides=[Override(k, v, "test") for k, v in values.items()])
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (BATCH, 3, 64, 64), dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, 10, (BATCH,), generator=generator)
    with joined(read_world(os.environ)) as group:
        trainer = Trainer(recipe, 10, CPU, torch.float32, group)
        mine = [share(t, group.rank, group.size) for t in (images, labels)]
        trainer.spread()
        trainer.rehearse(BATCH // group.size, 64)
        losses = []
        for step in range(3):
            trainer.step(step, repeat(Batch(*mine, torch.zeros(0, dtype=torch.int64))), 1, 0.01)
            losses.append(trainer.take(trainer.loss_sum, 1))
        print(json.dumps([*losses, sum(p.square().sum().item() for p in trainer.model.parameters())]))


def figures(size: int, sync_bn: bool) -> list[float]:
    outputs = ranks.results(train, size, sync_bn)
    assert len(set(outputs)) == 1
    return json.loads(outputs[0])


@pytest.fixture(scope="module")
def alone() -> list[float]:
    return figures(1, sync_bn=True)


@pytest.mark.parametrize("size", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_steps_are_the_same_on_any_number_of_ranks(size, alone):
    """To rounding."""
    assert figures(size, sync_bn=True) == pytest.approx(alone, rel=1e-5)


def test_without_it_each_rank_normalises_by_its_own_images(alone):
    assert figures(2, sync_bn=False) != pytest.approx(alone, rel=1e-3)
