"""Fault 35: a count that no world size and no batch divides; each image is counted once on 1, 2 and 3 ranks."""

import os
import socket
from itertools import accumulate

import pytest
import torch

from resnetctl.data.batches.eval import EvalBatches
from resnetctl.data.dataset import load_dataset
from resnetctl.distributed.group import joined
from resnetctl.distributed.world import read_world
from resnetctl.engine.evaluate import Result, evaluate
from resnetctl.engine.events import Evaluating
from resnetctl.engine.inference import in_use
from resnetctl.model.resnet import build_model
from resnetctl.recipe import Override, load_recipe
from tests.fixtures.views import eval_view

CPU = torch.device("cpu")


def measure(rank: int, world: int, port: int, root, results) -> None:
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(world), MASTER_ADDR="localhost", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    torch.manual_seed(0)
    recipe = load_recipe("small", overrides=[Override("model.arch", "resnet18", "test")])
    model = build_model(recipe.model, 3)
    with joined(read_world(os.environ)) as group:
        view = eval_view(load_dataset(root).val().path, batch=5, rank=group.rank, world_size=group.size)
        used = in_use(model, recipe, CPU, torch.float32)
        *progress, result = evaluate(used, EvalBatches(view), workers=0, group=group, guesses=True)
        assert isinstance(result, Result)
        seen = accumulate(min(5, 23 - 5 * item) for item in range(group.rank, 5, group.size))
        assert progress == [Evaluating(images=min(23, n * group.size), total=23) for n in seen]
        results[rank] = (result.correct1, result.correct5, result.images, round(result.loss, 5), result.unreadable)
        results[rank] += (result.guesses.labels.tolist(),)


@pytest.fixture(scope="module")
def alone(data):
    results: dict = {}
    with pytest.MonkeyPatch.context() as patch:
        for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
            patch.setenv(name, "")
        measure(0, 1, 0, data, results)
    return results[0]


@pytest.mark.parametrize("world", [2, 3])
def test_35_each_image_is_counted_once_on_any_number_of_ranks(world, alone, data):
    assert alone[2] == 23
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    context = torch.multiprocessing.get_context("spawn")
    results = context.Manager().dict()
    torch.multiprocessing.spawn(measure, (world, port, data, results), nprocs=world)
    assert dict(results) == dict.fromkeys(range(world), alone)
