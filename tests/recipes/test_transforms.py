"""What each preset does to images, targets and the average, against the source's own objects or, without, its text."""

from typing import Any

import pytest
import torch
import torchvision
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torchvision.transforms import v2

from resnetctl.data.batches.policies import fill_color
from resnetctl.model.ema import MovingAverage, decay_of
from resnetctl.recipe import Recipe, load_recipe, recipe_names

SOURCED = [name for name in recipe_names() if load_recipe(name).published]
TORCHVISION = [name for name in SOURCED if not name.startswith("rsb-")]
RSB = [name for name in SOURCED if name.startswith("rsb-")]

# training resolution; shorter side and crop of the evaluation
SIZES = {
    "torchvision-v1": (224, 256, 224),
    "torchvision-v2": (176, 232, 224),
    "goyal": (224, 256, 224),
    "nvidia-90": (224, 256, 224),
    "nvidia-250": (224, 256, 224),
    "fast": (192, round(256 * 256 / 224), 256),  # the central 224/256 of the shorter side, at 256 pixels
    "composer-mild": (176, 232, 224),
    "rsb-a1": (224, 235, 224),
    "rsb-a2": (224, 235, 224),
    "rsb-a3": (160, 235, 224),
}

# by the sources' texts and settings: label smoothing, mixup, cutmix, loss, drop-path, repetitions, random erasing
TARGETS = {
    "torchvision-v1": (0.0, 0.0, 0.0, "cross-entropy", 0.0, 1, 0.0),
    "torchvision-v2": (0.1, 0.2, 1.0, "cross-entropy", 0.0, 4, 0.1),
    "goyal": (0.0, 0.0, 0.0, "cross-entropy", 0.0, 1, 0.0),
    "nvidia-90": (0.1, 0.0, 0.0, "cross-entropy", 0.0, 1, 0.0),
    "nvidia-250": (0.1, 0.2, 0.0, "cross-entropy", 0.0, 1, 0.0),
    "fast": (0.1, 0.0, 0.0, "cross-entropy", 0.0, 1, 0.0),
    "composer-mild": (0.08, 0.0, 0.0, "bce", 0.0, 1, 0.0),
    "rsb-a1": (0.1, 0.2, 1.0, "bce", 0.05, 3, 0.0),
    "rsb-a2": (0.0, 0.1, 1.0, "bce", 0.05, 3, 0.0),
    "rsb-a3": (0.0, 0.1, 1.0, "bce", 0.0, 1, 0.0),
}


def test_every_preset_with_a_published_result_is_here() -> None:
    assert set(SIZES) == set(TARGETS) == set(SOURCED)


@pytest.mark.parametrize("name", SOURCED)
def test_sizes(name: str) -> None:
    data = load_recipe(name).data
    assert (data.train_size, data.val_resize, data.val_size) == SIZES[name]


@pytest.mark.parametrize("name", SOURCED)
def test_targets_and_what_is_drawn(name: str) -> None:
    r = load_recipe(name)
    mixed = (r.train.label_smoothing, r.train.mixup_alpha, r.train.cutmix_alpha, r.train.loss)
    assert (*mixed, r.model.drop_path, r.data.repeated_augmentation, r.data.random_erase) == TARGETS[name]


def check_crop(recipe: Recipe, crop: Any, flip: Any) -> None:
    """The random crop and flip of `recipe` are those of the source's transforms."""
    data = recipe.data
    assert tuple(crop.size) == (data.train_size, data.train_size)
    assert data.crop_scale == tuple(crop.scale)
    assert data.crop_ratio == pytest.approx(tuple(crop.ratio))
    assert data.interpolation == getattr(crop.interpolation, "value", crop.interpolation)
    assert data.hflip == flip.p


@pytest.mark.parametrize("name", TORCHVISION)
def test_crops_and_flips_are_torchvisions(name: str) -> None:
    """FFCV, Composer and NVIDIA take RandomResizedCrop's defaults too; Goyal et al. what it was made after."""
    recipe = load_recipe(name)
    check_crop(recipe, v2.RandomResizedCrop(recipe.data.train_size), v2.RandomHorizontalFlip())


@pytest.mark.parametrize(("name", "which"), [("torchvision-v1", "IMAGENET1K_V1"), ("torchvision-v2", "IMAGENET1K_V2")])
def test_evaluation_is_that_of_torchvisions_weights(name: str, which: str) -> None:
    data = load_recipe(name).data
    look = torchvision.models.ResNet50_Weights[which].transforms()
    assert [data.val_resize, data.val_size] == [*look.resize_size, *look.crop_size]
    assert data.interpolation == look.interpolation.value
    assert (list(data.mean), list(data.std)) == (look.mean, look.std)


def test_torchvision_v2_augments_with_trivial_augment_wide() -> None:
    """presets.py: auto_augment="ta_wide" with the preset's interpolation and no fill, RandomErasing(p=0.1)."""
    data = load_recipe("torchvision-v2").data
    assert data.augment == "trivial-augment-wide"
    assert v2.TrivialAugmentWide().num_magnitude_bins == 31  # as ours, which test_policies compares draw by draw
    assert fill_color(data) == (0, 0, 0)
    assert v2.RandomErasing(p=data.random_erase).scale == (0.02, 0.33)


@pytest.mark.parametrize("name", sorted(set(TORCHVISION) - {"torchvision-v2"}))
def test_others_do_not_augment(name: str) -> None:
    data = load_recipe(name).data
    assert (data.augment, data.color_jitter) == ("none", (0.0,) * 4)


@pytest.mark.parametrize(
    ("name", "policy"),
    [("rsb-a1", "rand-m7-mstd0.5-inc1"), ("rsb-a2", "rand-m7-mstd0.5-inc1"), ("rsb-a3", "rand-m6-mstd0.5-inc1")],
)
def test_rsb_transforms_are_timms(name: str, policy: str) -> None:
    timm = pytest.importorskip("timm.data")
    recipe = load_recipe(name)
    data = recipe.data
    side = (3, data.train_size, data.train_size)
    train = timm.create_transform(side, is_training=True, auto_augment=policy, interpolation="bicubic")
    crop, flip, augment, _, normalise = train.transforms
    check_crop(recipe, crop, flip)
    assert augment.num_layers == 2
    assert len(augment.ops) == 15
    for operation in augment.ops:
        assert (operation.magnitude, operation.magnitude_std, operation.prob) == (*data.rand_augment, 0.5)
        assert operation.kwargs["resample"].name.lower() == data.interpolation
        assert operation.kwargs["fillcolor"] == fill_color(data)
    assert data.mean == pytest.approx(normalise.mean.tolist())
    assert data.std == pytest.approx(normalise.std.tolist())

    resize, centre, *_ = timm.create_transform((3, 224, 224), crop_pct=0.95, interpolation="bicubic").transforms
    assert (data.val_resize, (data.val_size,) * 2) == (resize.size, tuple(centre.size))


@pytest.mark.parametrize("name", RSB)
def test_rsb_mixing_is_timms(name: str) -> None:
    train = load_recipe(name).train
    mixup = pytest.importorskip("timm.data.mixup").Mixup(train.mixup_alpha, train.cutmix_alpha)
    assert (mixup.switch_prob, mixup.mode, mixup.mix_prob) == (0.5, "batch", 1.0)  # half and half, always one
    assert train.mix_style == "timm"


# --- the moving average ---------------------------------------------------------------------------------------------

DECAYS = {
    "torchvision-v2": (32, 1 - (1 - 0.99998) * 1024 * 32 / 600),  # train.py: adjust = batch × steps / epochs
    "composer-mild": (20, 2 ** (-20 / 100)),  # EMA(half_life="100ba", update_interval="20ba")
}


@pytest.mark.parametrize("name", DECAYS)
def test_the_average_is_torchs_with_the_sources_decay(name: str) -> None:
    recipe = load_recipe(name)
    every, decay = DECAYS[name]
    assert recipe.ema.every_steps == every
    assert decay_of(recipe.ema, recipe.train) == pytest.approx(decay, rel=1e-12)
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    ours = MovingAverage(network)
    theirs = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
    theirs.update_parameters(network)  # the first one copies
    for _ in range(3):
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter)
        ours.update(network, decay_of(recipe.ema, recipe.train))
        theirs.update_parameters(network)
    for mine, other in zip(ours.network.parameters(), theirs.module.parameters(), strict=True):
        torch.testing.assert_close(mine, other)


@pytest.mark.parametrize("name", sorted(set(SOURCED) - set(DECAYS)))
def test_others_have_no_average(name: str) -> None:
    assert load_recipe(name).ema.every_steps == 0


def test_timms_average_is_ours_at_its_decay() -> None:
    timm = pytest.importorskip("timm.utils")
    torch.manual_seed(0)
    network = torch.nn.Linear(5, 4)
    ours, theirs = MovingAverage(network), timm.ModelEmaV3(network, decay=0.9)
    for _ in range(3):
        torch.nn.init.normal_(network.weight)
        ours.update(network, 0.9)
        theirs.update(network)
    torch.testing.assert_close(ours.network.weight, theirs.module.weight)
    assert not torch.allclose(ours.network.weight, network.weight)
