"""Whole runs of a few steps on a data set smaller than a batch."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from resnetctl.data.index import Index
from resnetctl.engine.evaluate import Result, eval_batches, evaluate
from resnetctl.engine.events import Evaluated, Finished, Notice, Preparing, Started, Stepped
from resnetctl.engine.inference import load_model
from resnetctl.engine.models import Asked, find_model
from resnetctl.engine.setup import RunSetup
from resnetctl.engine.signals import StopRequest
from resnetctl.engine.train_loop import train
from resnetctl.engine.trainer import Trainer
from resnetctl.engine.validation import Validation
from resnetctl.errors import DataError, ResnetctlError
from resnetctl.recipe import Override, change_recipe, load_recipe
from resnetctl.runs.checkpoint import load_newest
from resnetctl.runs.folder import create_run
from tests.fixtures.small_index import pictures, write_index

CPU = torch.device("cpu")


def setup(root, files, **values):
    settings = {
        "model.arch": "resnet18",
        "train.precision": "fp32",
        "data.train_size": 32,
        "data.val_resize": 32,
        "data.val_size": 32,
    } | {k.replace("__", "."): v for k, v in values.items()}
    recipe = load_recipe("small", overrides=[Override(k, v, "test") for k, v in settings.items()])
    return RunSetup(
        run=create_run(root / "runs", None, "small"),
        recipe=recipe,
        train=Index(write_index(root, files)),
        val=Index(write_index(root, pictures(2, 3), split="val")),
        device=CPU,
        workers=0,
    )


def test_epochs_shorter_than_a_step_are_evaluated_as_often_as_they_can(tmp_path):
    """10 images in steps of 25: epochs end inside steps, several at once, and every second one is asked for."""
    events = list(train(setup(tmp_path, pictures(2, 5), train__global_batch=25, train__epochs=10,
                            train__eval_every_epochs=2), StopRequest()))  # fmt: skip
    assert [(e.step, e.epoch) for e in events if isinstance(e, Evaluated)] == [(1, 2), (2, 5), (3, 7), (4, 10)]
    assert [(e.step, e.steps) for e in events if isinstance(e, Stepped)] == [(n, 4) for n in range(1, 5)]
    assert isinstance(events[-1], Finished)


def test_every_second_epoch_of_many_steps(tmp_path):
    """10 images in steps of 3: epochs end in steps 4, 7, 10 and 14, and 40 images are 13 steps."""
    events = train(
        setup(tmp_path, pictures(2, 5), train__global_batch=3, train__epochs=4, train__eval_every_epochs=2),
        StopRequest(),
    )
    assert [e.step for e in events if isinstance(e, Evaluated)] == [7, 13]


def test_the_time_left_after_the_last_step_is_that_of_the_evaluation_to_come(tmp_path):
    events = list(train(setup(tmp_path, pictures(2, 5), train__global_batch=5, train__epochs=1), StopRequest()))
    assert [e.step for e in events if isinstance(e, Evaluated)] == [2]
    last = [e for e in events if isinstance(e, Stepped)][-1]
    assert last.step == last.steps == 2
    assert last.eta_seconds > 0


def test_unreadable_images_are_told_once_and_counted(tmp_path):
    files = pictures(2, 9) | {"class0/bad[/].jpg": b"no picture"}
    events = list(train(setup(tmp_path, files, train__global_batch=19, train__epochs=3), StopRequest()))
    notices = [e.text for e in events if isinstance(e, Notice)]
    assert notices.count("cannot read class0/bad[/].jpg: another image took its place") == 1
    assert events[-1].unreadable == ("class0/bad[/].jpg",)


def test_too_many_unreadable_images_end_the_run(tmp_path):
    files = pictures(2, 9) | {f"class0/bad{i:02d}.jpg": b"no picture" for i in range(17)}
    with pytest.raises(DataError, match="17 of 35 images cannot be read") as caught:
        list(train(setup(tmp_path, files, train__global_batch=35, train__epochs=2), StopRequest()))
    assert "verify" in caught.value.hint


def test_a_run_far_below_the_published_band_is_warned_of_once(tmp_path, monkeypatch):
    monkeypatch.setattr("resnetctl.engine.validation.published_top1", lambda *_: (5.0, 98.0, 99.0, 99.0))
    pure = pictures(4, 5)
    events = list(
        train(setup(tmp_path, pure, train__global_batch=20, train__epochs=4, optimizer__lr=0.0), StopRequest())
    )
    warnings = [e.text for e in events if isinstance(e, Notice) and e.is_warning]
    assert len(warnings) == 1
    assert "published for small at this epoch: 98.0 %" in warnings[0]
    told_after = [
        e.step for e in events[: events.index(Notice(text=warnings[0], is_warning=True))] if isinstance(e, Evaluated)
    ]
    assert told_after[-1] == 2


def test_the_average_and_the_weights_themselves_are_both_measured(tmp_path):
    averaged = {"ema__every_steps": 1, "ema__decay": 0.9, "train__clip_grad_norm": 1.0, "train__loss_every": 1}
    work = setup(tmp_path, pictures(2, 5), train__global_batch=5, train__epochs=2, **averaged)
    list(train(work, StopRequest()))
    lines = [json.loads(line) for line in (work.run.folder / "metrics.jsonl").read_text().splitlines()]
    assert all(line["raw_top1"] is not None for line in lines if line["kind"] == "eval")
    assert all(line["grad_norm"] > 0 for line in lines if line["kind"] == "train")

    _, checkpoint = load_newest(work.run.checkpoints, lambda commit, error: None)
    for raw, part in ((False, "ema"), (True, "model")):
        asked = Asked(runs=tmp_path / "runs", device=CPU, classes=lambda: ((), ()), raw=raw)
        network = find_model(work.run.name, asked).model.network
        assert torch.equal(network.state_dict()["conv1.weight"], checkpoint.part(part)["conv1.weight"])
    assert not torch.equal(checkpoint.part("ema")["conv1.weight"], checkpoint.part("model")["conv1.weight"])


def test_a_checkpoint_of_a_run_in_fp16_is_measured_on_the_cpu(tmp_path):
    work = setup(tmp_path, pictures(2, 5), train__global_batch=10, train__epochs=1)
    list(train(work, StopRequest()))
    _, checkpoint = load_newest(work.run.checkpoints, lambda commit, error: None)
    assert checkpoint.metadata.recipe.train.precision == "fp32"
    told: list[str] = []
    batches = eval_batches(checkpoint.metadata.recipe, work.val, CPU)
    exact = list(evaluate(load_model(checkpoint, CPU, told.append), batches, workers=0))[-1]
    assert told == []
    recipe = change_recipe(checkpoint.metadata.recipe, [Override("train.precision", "fp16", "test")])
    fp16 = replace(checkpoint, metadata=replace(checkpoint.metadata, recipe=recipe))
    result = list(evaluate(load_model(fp16, CPU, told.append), batches, workers=0))[-1]
    assert isinstance(result, Result)
    assert len(told) == 1
    assert "fp16" in told[0]
    assert (result.correct1, result.loss) == (exact.correct1, exact.loss)


GROWING = {
    "data__train_size_start": 32,
    "data__train_size": 64,
    "data__train_size_multiple": 32,
    "data__train_size_ramp": [0.5, 0.5],
    "train__global_batch": 5,
    "train__epochs": 4,
}


def sizes(monkeypatch) -> list[int]:
    """The resolutions that go through the model in training, in their order."""
    seen: list[int] = []
    loss = Trainer.loss

    def look(self, batch, mix=None):
        seen.append(batch.images.shape[-1])
        return loss(self, batch, mix)

    monkeypatch.setattr(Trainer, "loss", look)
    return seen


def test_the_largest_size_is_the_first_that_is_tried(tmp_path, monkeypatch):
    seen = sizes(monkeypatch)
    events = list(train(setup(tmp_path, pictures(2, 5), **GROWING), StopRequest()))
    steps = [e.size for e in events if isinstance(e, Stepped)]
    assert steps[0] == 32
    assert steps[-1] == 64
    assert seen == [64, *steps]
    assert [type(e) for e in events[:2]] == [Preparing, Started]


def test_where_the_first_step_is_the_largest_nothing_is_thrown_away(tmp_path, monkeypatch):
    seen = sizes(monkeypatch)
    list(train(setup(tmp_path, pictures(2, 5), train__global_batch=5, train__epochs=1), StopRequest()))
    assert seen == [32, 32]


def test_what_learns_only_later_is_tried_at_the_start(tmp_path, monkeypatch):
    seen = []
    loss = Trainer.loss

    def look(self, batch, mix=None):
        seen.append(self.model.conv1.weight.requires_grad)
        return loss(self, batch, mix)

    monkeypatch.setattr(Trainer, "loss", look)
    frozen = {"train__freeze": "backbone", "train__freeze_epochs": 1.0}
    list(train(setup(tmp_path, pictures(2, 5), train__global_batch=5, train__epochs=2, **frozen), StopRequest()))
    assert seen == [True, False, False, True, True]


def test_too_little_memory_for_the_largest_size_is_told_before_the_run_begins(tmp_path, monkeypatch):
    def fail(self, batch, mix=None):
        raise MemoryError if batch.images.shape[-1] == 64 else AssertionError

    monkeypatch.setattr(Trainer, "loss", fail)
    seen = []
    with pytest.raises(ResnetctlError, match="5 images of 64 pixels") as caught:
        seen += train(setup(tmp_path, pictures(2, 5), **GROWING), StopRequest())
    assert "--resume" not in caught.value.hint, "there is no run to go on with"
    assert [type(e) for e in seen] == [Preparing]


@pytest.mark.parametrize(("val", "epochs", "batch"), [(50_000, 19, 0), (50_000, 20, 64), (1000, 100, 0)])
def test_evaluations_are_compiled_where_there_are_many(val, epochs, batch, monkeypatch):
    recipe = load_recipe("small", overrides=[Override("train.epochs", epochs, "test")])
    compiled = SimpleNamespace(is_compiled=True)
    work = SimpleNamespace(val=range(val), device=CPU, recipe=recipe)
    assert Validation(work, None, None, compiled, StopRequest())._compiled_batch() == batch
    plain = SimpleNamespace(is_compiled=False)
    assert Validation(work, None, None, plain, StopRequest())._compiled_batch() == 0
