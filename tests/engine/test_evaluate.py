"""Top-1, top-5 and loss counted by hand, image by image."""

import math
import shutil
import time
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch._dynamo.utils import counters
from torch.nn.functional import cross_entropy, log_softmax

from resnetctl.data.batches.eval import EvalBatches, EvalView
from resnetctl.data.images.decode import centre, decode
from resnetctl.data.index import Index
from resnetctl.distributed.group import Group
from resnetctl.distributed.world import World
from resnetctl.engine.evaluate import Result, eval_batch, eval_batches, evaluate, why_invalid
from resnetctl.engine.events import Evaluating
from resnetctl.engine.inference import Compiled, Model
from resnetctl.engine.normalise import Normalise
from resnetctl.engine.trainer import Trainer
from resnetctl.errors import DataError, ResnetctlError
from resnetctl.recipe import DataRecipe, Override, load_recipe
from tests.fixtures.small_index import pictures, write_index

CPU = torch.device("cpu")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def index_of(root, classes, each=5, bad=()):
    files = pictures(classes, each) | dict.fromkeys(bad, b"no picture")
    return write_index(root, files, split="val")


def tiny(classes: int) -> torch.nn.Module:
    """Sees where in the picture what colour is, and is different in training."""
    torch.manual_seed(1)
    return torch.nn.Sequential(
        torch.nn.AdaptiveAvgPool2d(2), torch.nn.Flatten(), torch.nn.Dropout(0.9), torch.nn.Linear(12, classes)
    )


def run(
    model,
    path,
    *,
    batch=4,
    workers=0,
    flip_average=False,
    precision=torch.float32,
    outputs=None,
    compiled=None,
    **options,
):
    used = model_of(model, precision=precision, flip_average=flip_average, outputs=outputs, compiled=compiled)
    return list(evaluate(used, EvalBatches(view_of(path, batch)), workers=workers, **options))


def model_of(network, *, precision=torch.float32, flip_average=False, outputs=None, compiled=None) -> Model:
    return Model(
        network=network,
        normalise=Normalise(MEAN, STD, CPU),
        device=CPU,
        precision=precision,
        flip_average=flip_average,
        outputs=outputs,
        compiled=compiled,
    )


def view_of(path, batch: int) -> EvalView:
    return EvalView(index=path, data=DataRecipe(val_resize=36, val_size=32), batch=batch)


def by_hand(model, path, flip_average=False):
    """(correct1, correct5, loss) with plain Python and one image at a time."""
    index, model = Index(path), model.eval()
    correct1 = correct5 = readable = 0
    loss = 0.0
    for i in range(len(index)):
        try:
            image = centre(decode(index.read(i)), 36, 32, "bilinear")
        except DataError:
            continue
        x = torch.empty(1, 3, 32, 32)
        for c in range(3):
            x[0, c] = (image[c] / 255 - MEAN[c]) / STD[c]
        with torch.no_grad():
            logits = model(x)[0]
            if flip_average:
                logits = (logits + model(x.flip(3))[0]) / 2
        ranking = sorted(range(len(logits)), key=lambda k: -float(logits[k]))
        label = int(index.label[i])
        correct1 += ranking[0] == label
        correct5 += label in ranking[:5]
        loss -= float(log_softmax(logits, 0)[label])
        readable += 1
    return correct1, correct5, loss / readable


@pytest.mark.parametrize("flip_average", [False, True])
def test_the_counts_are_those_made_by_hand(flip_average, tmp_path):
    path, model = index_of(tmp_path, 9), tiny(9)
    result = run(model, path, flip_average=flip_average)[-1]
    correct1, correct5, loss = by_hand(model, path, flip_average)
    assert 0 < correct1 < correct5 < 45  # else the test would say little
    assert (result.correct1, result.correct5, result.images) == (correct1, correct5, 45)
    assert result.loss == pytest.approx(loss, rel=1e-5)
    assert result.top1 == pytest.approx(100 * correct1 / 45)
    assert result.top5 == pytest.approx(100 * correct5 / 45)
    assert result.unreadable == ()


def test_the_loss_is_summed_in_double_precision(tmp_path):
    """Batches of one image: so each of the 45 summands is known to the last bit."""
    path, model = index_of(tmp_path, 9), tiny(9)
    used, batches = model_of(model), EvalBatches(view_of(path, 1))
    model.eval()
    with torch.inference_mode():
        each = [float(cross_entropy(used.logits(b.images), b.labels)) for b in map(batches.__getitem__, range(45))]
    assert run(model, path, batch=1)[-1].loss == pytest.approx(math.fsum(each) / 45, rel=1e-14)


def test_the_duration_is_told_in_seconds(tmp_path):
    path, began = index_of(tmp_path, 2), time.perf_counter()
    assert 0 < run(tiny(2), path)[-1].seconds < time.perf_counter() - began


def test_batches_and_workers_change_nothing(tmp_path):
    path, model = index_of(tmp_path, 9), tiny(9)
    results = [run(model, path, batch=b, workers=w)[-1] for b, w in ((1, 0), (4, 1), (7, 2), (45, 0), (64, 1))]
    for result in results[1:]:
        assert (result.correct1, result.correct5, result.images) == (results[0].correct1, results[0].correct5, 45)
        assert result.loss == pytest.approx(results[0].loss, rel=1e-6)


class Counting(torch.nn.Module):
    """A network that knows the shapes of what it was called with."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network, self.shapes = network, []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.shapes.append((tuple(images.shape), images.is_contiguous(memory_format=torch.channels_last)))
        return self.network(images)


@pytest.mark.parametrize("flip_average", [False, True])
def test_a_compiled_network_sees_batches_of_one_size_and_the_counts_stay(flip_average, tmp_path):
    """45 images in batches of 4: one is left over, beside three black ones that count nowhere."""
    path, model = index_of(tmp_path, 9), tiny(9)
    plain = run(model, path, flip_average=flip_average, guesses=True)[-1]
    compiled = Compiled(network=Counting(model), batch=4)
    result = run(model, path, flip_average=flip_average, guesses=True, compiled=compiled)[-1]
    assert (result.correct1, result.correct5, result.images) == (plain.correct1, plain.correct5, 45)
    assert result.loss == pytest.approx(plain.loss, rel=1e-6)
    assert (result.guesses.labels == plain.guesses.labels).all()
    assert compiled.network.shapes == [((4, 3, 32, 32), True)] * (12 * (1 + flip_average))


def test_model_and_average_are_compiled_once_for_all_evaluations(monkeypatch, tmp_path):
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    values = {"model.arch": "resnet18", "train.precision": "fp32", "ema.every_steps": 1}
    trainer = Trainer(
        load_recipe("small", overrides=[Override(k, v, "test") for k, v in values.items()]), 3, CPU, torch.float32
    )
    batches = EvalBatches(
        EvalView(index=write_index(tmp_path, pictures(3, 2)), data=DataRecipe(val_resize=36, val_size=32), batch=4)
    )
    torch._dynamo.reset()
    counters.clear()
    found = []
    for _ in range(2):
        for model in trainer.in_use(4):
            found.append(list(evaluate(model, batches, workers=0))[-1])
        trainer.train_mode()
        graphs = counters["stats"]["unique_graphs"]
    plain = [list(evaluate(model, batches, workers=0))[-1] for model in trainer.in_use()]
    assert graphs <= 2
    assert [r.correct1 for r in found] == [r.correct1 for r in plain] * 2
    assert [r.loss for r in found] == pytest.approx([r.loss for r in plain] * 2, rel=1e-5)


@pytest.mark.parametrize("classes", [1, 2, 4, 5])
def test_with_five_classes_or_fewer_every_label_is_among_the_first_five(classes, tmp_path):
    path, model = index_of(tmp_path, classes), tiny(classes)
    result = run(model, path)[-1]
    assert result.correct5 == result.images == 5 * classes
    assert result.correct1 == by_hand(model, path)[0]


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_image_counts_as_wrong(workers, tmp_path):
    bad = ("class0/001.jpg", "class6/004.jpg", "class6/new.jpg")
    path, model = index_of(tmp_path, 7, bad=bad), tiny(7)
    index = Index(path)
    result = run(model, path, workers=workers)[-1]
    correct1, correct5, loss = by_hand(model, path)
    assert (result.correct1, result.correct5, result.images) == (correct1, correct5, 36)
    assert result.loss == pytest.approx(loss, rel=1e-5)
    assert [index.name(i) for i in result.unreadable] == list(bad)


def test_nothing_readable_is_nothing_right(tmp_path):
    path = write_index(tmp_path, {f"c{c}/{i}.jpg": b"x" for c in range(2) for i in range(3)}, split="val")
    result = run(tiny(2), path)[-1]
    assert (result.correct1, result.correct5, result.images) == (0, 0, 6)
    assert math.isnan(result.loss)
    assert result.unreadable == tuple(range(6))
    assert not result.is_valid


def test_progress_is_told_and_ends_with_all(tmp_path):
    *progress, result = run(tiny(3), index_of(tmp_path, 3), batch=4)
    assert progress == [Evaluating(images=n, total=15) for n in (4, 8, 12, 15)]
    assert isinstance(result, Result)


@pytest.mark.parametrize("training", [True, False])
def test_the_model_is_left_as_it_was(training, tmp_path):
    model = torch.nn.Sequential(torch.nn.BatchNorm2d(3), tiny(3)).train(training)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    run(model, index_of(tmp_path, 3))
    assert model.training is training
    assert all(m.training is training for m in model.modules())
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def test_a_stop_ends_it_without_a_result(tmp_path):
    path, model = index_of(tmp_path, 3), tiny(3).train()
    asked = []
    events = run(model, path, stopped=lambda: asked.append(1) or len(asked) > 2)
    assert events == [Evaluating(images=n, total=15) for n in (4, 8)]
    assert model.training
    assert run(model, path, stopped=lambda: True) == []


def test_an_error_leaves_the_model_in_its_mode(tmp_path):
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(5, 5)).train()
    with pytest.raises(RuntimeError):
        run(model, index_of(tmp_path, 2))
    assert model.training


def test_bf16_is_close_to_fp32(tmp_path):
    path, model = index_of(tmp_path, 6), tiny(6)
    exact, rough = run(model, path)[-1], run(model, path, precision=torch.bfloat16)[-1]
    assert rough.loss == pytest.approx(exact.loss, rel=0.01)
    assert rough.loss != exact.loss
    assert abs(exact.correct5 - rough.correct5) <= 2


@pytest.mark.parametrize(("batch", "workers"), [(1, 0), (4, 2), (64, 0)])
def test_the_guesses_are_those_of_the_counts(batch, workers, tmp_path):
    bad = ("class0/001.jpg", "class6/004.jpg")
    path, model = index_of(tmp_path, 7, bad=bad), tiny(7)
    index = Index(path)
    assert run(model, path)[-1].guesses is None, "they are kept only when asked for"
    result = run(model, path, batch=batch, workers=workers, guesses=True)[-1]
    guesses = result.guesses
    assert guesses.labels.shape == guesses.probabilities.shape == (35, 5)
    assert guesses.truth.dtype == np.int64
    assert guesses.truth.tolist() == index.label.tolist()
    hits = guesses.labels == index.label[:, None]
    assert (hits[:, 0].sum(), hits.any(1).sum()) == (result.correct1, result.correct5)
    unread = [i for i in range(35) if index.name(i) in bad]
    assert (guesses.labels[unread] == -1).all()
    assert (guesses.probabilities[unread] == 0).all()
    for i in (0, 11, 33):
        image = centre(decode(index.read(i)), 36, 32, "bilinear")
        x = (image[None] / 255 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
        expected = model.eval()(x).softmax(1)[0].topk(5)
        assert guesses.labels[i].tolist() == expected.indices.tolist()
        assert guesses.probabilities[i].tolist() == pytest.approx(expected.values.tolist(), abs=1e-5)


def test_only_the_chosen_outputs_compete(tmp_path):
    """Of a model of 9 classes, the outputs 7, 2 and 5 for images of three."""
    path, model = index_of(tmp_path, 3), tiny(9)
    chosen = torch.nn.Sequential(*model[:-1], torch.nn.Linear(12, 3))
    chosen[-1].weight.data = model[-1].weight.data[[7, 2, 5]]
    chosen[-1].bias.data = model[-1].bias.data[[7, 2, 5]]
    result = run(model, path, outputs=torch.tensor([7, 2, 5]), guesses=True)[-1]
    expected = run(chosen, path, guesses=True)[-1]
    assert (result.correct1, result.correct5) == (expected.correct1, 15)
    assert result.loss == pytest.approx(expected.loss, rel=1e-5)
    assert result.guesses.labels.tolist() == expected.guesses.labels.tolist()


# --- which batches, and what cannot be believed -----------------------------------------------------------------


def test_each_rank_has_its_part_of_the_split_as_the_recipe_reads_it(tmp_path):
    index = Index(index_of(tmp_path, 9))
    recipe = load_recipe("small", overrides=[Override("data.val_size", 40, "test")])
    alone = eval_batches(recipe, index, CPU)
    view = EvalView(index=index.path, fingerprint=index.info.fingerprint, data=recipe.data, batch=64)
    assert alone.view == view
    assert alone[0].images.shape == (45, 3, 40, 40)
    second = eval_batches(recipe, index, CPU, Group(World(rank=1, size=3)))
    assert second.view == replace(view, rank=1, world_size=3)


@pytest.mark.parametrize(("kind", "images"), [("cpu", 64), ("mps", 64), ("cuda:1", 256)])
def test_a_gpu_sees_more_images_at_once(kind, images):
    assert eval_batch(torch.device(kind)) == images


class Hanging(EvalBatches):
    """Storage that does not answer."""

    def __getitem__(self, item):
        time.sleep(20)  # a fault in passing on the timeout should end, too


def test_storage_that_does_not_answer_is_an_error_after_the_timeout(tmp_path):
    batches, model = Hanging(view_of(index_of(tmp_path, 2), 4)), tiny(2).train()
    with pytest.raises(ResnetctlError, match="no batch came from the loader workers for 1 seconds"):
        list(evaluate(model_of(model), batches, workers=1, timeout=1))
    assert model.training


def test_a_result_with_too_many_unreadable_images_is_not_believed(tmp_path):
    bad = ("class0/000.jpg", "class1/002.jpg", "class2/001.jpg", "class2/002.jpg")
    path, model = index_of(tmp_path, 3, bad=bad[:1]), tiny(3)
    assert why_invalid(run(model, path)[-1], Index(path)) is None, "one may be"
    path = index_of(tmp_path, 3, bad=bad)
    error = why_invalid(run(model, path)[-1], Index(path))
    assert error.message.startswith("4 of 15 val images cannot be read, such as class0/000.jpg, class1/002.jpg, class2")
    assert "resnetctl verify" in error.hint
    shutil.rmtree(tmp_path / "val")
    assert "the val images are gone" in why_invalid(run(model, path)[-1], Index(path)).message
