"""What a report shows of training is what the network is given in training."""

import numpy as np
import pytest
import torch

from resnetctl.data.batches.loader import load
from resnetctl.data.batches.train import TrainBatches, train_view
from resnetctl.data.dataset import load_dataset
from resnetctl.data.prepare import prepare
from resnetctl.engine.inputs import seen, telling_steps
from resnetctl.engine.normalise import Normalise
from resnetctl.engine.trainer import Trainer
from resnetctl.recipe import Override, load_recipe

CPU = torch.device("cpu")
ALL_ON = {
    "model.arch": "resnet18",
    "train.precision": "fp32",
    "train.epochs": 4,
    "train.mixup_alpha": 0.2,
    "train.cutmix_alpha": 1.0,
    "data.train_size": 48,
    "data.train_size_start": 32,
    "data.train_size_ramp": (0.25, 0.75),
    "data.random_erase": 0.5,
    "data.augment": "trivial-augment-wide",
    "data.crop_scale": (0.3, 1.0),
}
UNMIXED = {"train.mixup_alpha": 0.0, "train.cutmix_alpha": 0.0}


def recipe(**values):
    return load_recipe("small", overrides=[Override(k, v, "test") for k, v in {**ALL_ON, **values}.items()])


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    root = tmp_path_factory.mktemp("sample")
    prepare(root, kind="sample")
    return load_dataset(root).train()


@pytest.mark.parametrize("values", [{}, {"train.mix_style": "timm"}, UNMIXED])
def test_it_is_what_the_trainer_gives_the_network(index, values):
    """The pictures that reach the network in real steps, back from their normalisation, to the last pixel."""
    r = recipe(**values)
    steps = telling_steps(r, len(index))
    found = seen(r, index, CPU, steps, 16)
    view = train_view(r, index, 64)
    trainer, given = Trainer(r, 10, CPU, torch.float32), []
    trainer.model.register_forward_pre_hook(lambda module, images: given.append(images[0].detach().clone()))
    undo = Normalise(r.data.mean, r.data.std, CPU).undo
    for one, step in zip(found, steps, strict=True):
        trainer.step(step, load(TrainBatches(view), [step], workers=0, pin=False), 1, 0.0)
        expected = undo(given[-1][:16]).permute(0, 2, 3, 1).numpy()
        assert one.images.shape == (16, one.size, one.size, 3)
        assert np.array_equal(one.images, expected)


def test_a_picture_on_its_own_is_its_own_class(index):
    r = recipe(**UNMIXED)
    (one,) = seen(r, index, CPU, [0], 5)
    assert one.mixed is None
    assert len(one.names) == len(one.images) == len(one.targets) == 5
    classes = [index.info.classes[int(k)] for k in one.targets.argmax(1)]
    assert classes == [name.partition("/")[0] for name in one.names]


def test_shares_add_up(index):
    found = seen(recipe(), index, CPU, [0, 1, 2], 64)
    for one in found:
        share = float(one.mixed.split(", ")[1].split(" ")[0]) / 100
        assert np.allclose(one.targets.sum(1), 1)
        largest = one.targets.max(1)
        assert np.allclose(largest[largest < 1], max(share, 1 - share), atol=0.006)


def test_a_runs_own_micro_batch_decides_who_is_mixed_with_whom(index):
    small, large = (seen(recipe(), index, CPU, [0], 32, micro_batch=n)[0] for n in (32, 64))
    assert small.names == large.names
    assert not np.array_equal(small.images[0], large.images[0])


def test_steps_that_tell_something(index):
    """2,000 images in batches of 64: the ramp from 32 to 48 px ends in epoch 3."""
    r = recipe()
    first, second, last = telling_steps(r, 2000)
    assert (first, second) == (0, 1)
    sizes = [one.size for one in seen(r, index, CPU, [last - 1, last], 1)]
    assert sizes[0] < sizes[1] == 48
    assert telling_steps(recipe(**{"data.train_size_start": 0}), 2000) == [0, 1]
    assert telling_steps(recipe(**{"train.max_steps": 1}), 2000) == [0]
