"""What ranks say to each other in a step: gradients, and nothing else."""

import json
import os
from itertools import repeat

import torch

from resnetctl.data.batches.batch import Batch
from resnetctl.distributed.group import joined
from resnetctl.distributed.world import read_world
from resnetctl.engine.trainer import Trainer
from resnetctl.recipe import Override, load_recipe
from tests.distributed import ranks
from tests.operations import Operations

CPU = torch.device("cpu")


def count(broadcasts: str) -> None:
    """Print how often each collective was called in the third step, and whether gradients lie in the buckets."""
    values = {"model.arch": "resnet18", "train.global_batch": 8, "train.precision": "fp32"}
    recipe = load_recipe("small", overrides=[Override(k, v, "test") for k, v in values.items()])
    images = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)
    batches = repeat(Batch(images, torch.zeros(4, dtype=torch.int64), torch.zeros(0, dtype=torch.int64)))
    with joined(read_world(os.environ)) as group:
        trainer = Trainer(recipe, 10, CPU, torch.float32, group)
        trainer.spread()
        trainer.rehearse(4, 32)
        assert trainer._parallel is not None
        if broadcasts == "with":
            trainer._parallel.broadcast_buffers = True
        for step in range(2):
            trainer.step(step, batches, 1, 0.01)
        with Operations() as seen:
            trainer.step(2, batches, 1, 0.01)
        print(json.dumps([seen.counts("c10d"), trainer._parallel.gradient_as_bucket_view]))


def test_a_step_sends_gradients_and_no_buffers():
    for output in ranks.results(count, 2, "without"):
        counts, views = json.loads(output)
        assert counts.keys() == {"c10d::allreduce_"}
        assert 1 <= counts["c10d::allreduce_"] < 10  # some buckets
        assert views


def test_the_broadcasts_would_be_seen():
    counts, _ = json.loads(ranks.results(count, 2, "with")[0])
    assert counts["c10d::broadcast_"] > 0
