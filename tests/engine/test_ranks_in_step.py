"""Several ranks of a run: what one of them alone learns is acted on by all at the same step."""

import json
import os
import signal
from pathlib import Path

import pytest
import torch

from resnetctl.data.index import Index, index_path
from resnetctl.distributed.group import joined
from resnetctl.distributed.world import read_world
from resnetctl.engine.events import Evaluating, Finished, Stepped
from resnetctl.engine.setup import RunSetup
from resnetctl.engine.signals import StopRequest
from resnetctl.engine.train_loop import train
from resnetctl.recipe import Override, load_recipe
from resnetctl.runs.checkpoint import load_newest
from resnetctl.runs.folder import Run, create_run
from tests.distributed import ranks
from tests.fixtures.small_index import pictures, write_index

SETTINGS = {
    "model.arch": "resnet18",
    "train.precision": "fp32",
    "train.global_batch": 4,
    "train.epochs": 3,
    "data.train_size": 32,
    "data.val_resize": 32,
    "data.val_size": 32,
}


def stop_one(root: str, moment: str) -> None:
    """Train; the second rank alone is asked to stop in its second step, or while it evaluates. Print how it ended."""
    recipe = load_recipe("small", overrides=[Override(k, v, "test") for k, v in SETTINGS.items()])
    with joined(read_world(os.environ)) as group:
        folder = Path(root)
        setup = RunSetup(
            run=Run(folder / "runs" / "small"),
            recipe=recipe,
            train=Index(index_path(folder, "train")),
            val=Index(index_path(folder, "val")),
            device=torch.device("cpu"),
            workers=0,
            group=group,
        )
        stop, told = StopRequest(), 0
        for event in train(setup, stop):
            told += isinstance(event, Stepped if moment == "step" else Evaluating)
            if group.rank == 1 and told == 2:
                stop.signal = signal.SIGTERM
        assert isinstance(event, Finished)
        print(json.dumps([event.step, event.stopped_by, list(event.unreadable)]))


@pytest.mark.parametrize(("moment", "steps"), [("step", 3), ("evaluation", 5)])
def test_all_ranks_stop_at_the_step_of_the_checkpoint(moment, steps, tmp_path):
    """The signal of the second step is known to all before the fourth. One in an evaluation, after step 5, ends it.

    So none is missing where the run goes on; and what could not be read until then is in the checkpoint.
    """
    files = pictures(2, 9) | {f"class{n}/bad.jpg": b"no picture" for n in range(2)}
    write_index(tmp_path, files)
    write_index(tmp_path, pictures(2, 400), split="val")
    run = create_run(tmp_path / "runs", None, "small")
    run.folder.rename(tmp_path / "runs" / "small")
    outputs = [json.loads(output) for output in ranks.results(stop_one, 2, tmp_path, moment)]
    assert outputs[0] == outputs[1]
    assert outputs[0][:2] == [steps, signal.SIGTERM]
    _, saved = load_newest(tmp_path / "runs" / "small" / "checkpoints", lambda commit, error: None)
    assert saved.metadata.step == steps
    assert saved.metadata.history == ()
    names = Index(index_path(tmp_path, "train"))
    assert sorted(names.name(i) for i in saved.metadata.unreadable) == outputs[0][2]
