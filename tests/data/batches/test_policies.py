"""Which operations a sample gets: torchvision's and timm's distributions, each sample's own whoever is beside it."""

import random

import numpy as np
import pytest
import torch
from scipy import stats
from torchvision.transforms import v2

from resnetctl.data.batches.order import Samples
from resnetctl.data.batches.policies import auto_augment, color_jitter, rand_augment, trivial_augment
from resnetctl.data.images.operations import OPERATIONS

N = 100_000
JITTER = (0.4, 0.3, 1.2, 0.1)
FACTORS = {"Brightness": "brightness", "Color": "color", "Contrast": "contrast", "Sharpness": "sharpness"}
NAMES = FACTORS | {
    "ShearX": "shear-x",
    "ShearY": "shear-y",
    "TranslateX": "translate-x",
    "TranslateY": "translate-y",
    "Rotate": "rotate",
    "Posterize": "posterize",
    "Solarize": "solarize",
    "SolarizeAdd": "solarize-add",
    "AutoContrast": "auto-contrast",
    "Equalize": "equalize",
    "Invert": "invert",
}


def some(count, epoch=0, repetition=0):
    numbers = np.arange(count)
    return Samples(np.full(count, epoch), numbers, np.full(count, repetition))


POLICIES = {
    "trivial_augment": lambda seed, samples: trivial_augment(seed, samples, "bilinear"),
    "auto_augment": lambda seed, samples: auto_augment(seed, samples, "bicubic"),
    "rand_augment": lambda seed, samples: rand_augment(seed, samples, 7.0, 0.5, 224, "bicubic"),
    "rand_augment, no noise": lambda seed, samples: rand_augment(seed, samples, 9.0, 0.0, 160, "bilinear"),
    "color_jitter": lambda seed, samples: color_jitter(seed, samples, JITTER),
}


class Recorded:
    """Keeps torchvision's transform from touching pixels, and notes what it would have done."""

    def _apply_image_or_video_transform(self, image, transform_id, magnitude, **_):
        self.chosen.append((transform_id, magnitude))
        return image


class TrivialAugmentWide(Recorded, v2.TrivialAugmentWide):
    chosen: list


class AutoAugment(Recorded, v2.AutoAugment):
    chosen: list


def as_ours(transform_id, magnitude):
    """torchvision's identifier and magnitude as our name and argument, by its _apply_image_or_video_transform."""
    name = NAMES[transform_id]
    if transform_id in FACTORS:
        return name, 1.0 + magnitude
    if transform_id.startswith("Translate"):
        return name, float(-int(magnitude))
    return name, 255.0 * magnitude if transform_id == "Solarize" else float(magnitude)


def torchvision_draws(transform, count):
    torch.manual_seed(0)
    image = torch.zeros(3, 224, 224, dtype=torch.uint8)
    draws = []
    for _ in range(count):
        transform.chosen = []
        transform(image)
        draws.append(tuple(as_ours(*c) for c in transform.chosen if c[0] != "Identity"))
    return draws


def ours(policy, count):
    return [tuple((o.name, o.argument) for o in chosen) for chosen in POLICIES[policy](0, some(count))]


def assert_same_distribution(ours, theirs):
    """Equally many of each sequence of operations, and arguments of each operation distributed alike."""
    kinds = sorted({tuple(name for name, _ in chosen) for chosen in (*ours, *theirs)})
    places = {kind: n for n, kind in enumerate(kinds)}
    counts = [
        np.bincount([places[tuple(name for name, _ in c)] for c in side], minlength=len(kinds))
        for side in (ours, theirs)
    ]
    assert stats.chi2_contingency(np.array(counts)).pvalue > 0.001
    for name in {name for kind in kinds for name in kind}:
        a, b = ([argument for chosen in side for n, argument in chosen if n == name] for side in (ours, theirs))
        assert stats.ks_2samp(a, b).pvalue > 0.0005, name


def test_trivial_augment_is_distributed_as_torchvisions():
    assert_same_distribution(ours("trivial_augment", N), torchvision_draws(TrivialAugmentWide(), N // 4))


def test_auto_augment_is_distributed_as_torchvisions():
    assert_same_distribution(ours("auto_augment", N), torchvision_draws(AutoAugment(), N // 4))


def values(draws):
    """What arguments each operation may have."""
    found = {}
    for name, argument in {pair for chosen in draws for pair in chosen}:
        found.setdefault(name, set()).add(argument)
    return {name: sorted(arguments) for name, arguments in found.items()}


@pytest.mark.parametrize(
    ("policy", "theirs"), [("trivial_augment", TrivialAugmentWide()), ("auto_augment", AutoAugment())]
)
def test_arguments_are_torchvisions(policy, theirs):
    assert values(ours(policy, 20_000)) == values(torchvision_draws(theirs, 20_000))


def timm_draws(config, count, size=224):
    timm = pytest.importorskip("timm.data.auto_augment")
    random.seed(0)
    np.random.seed(0)
    policy = timm.rand_augment_transform(config, {"translate_const": 100, "img_mean": (124, 116, 104)})
    draws = []
    for operation in policy.ops:
        name = operation.name.replace("Increasing", "").replace("Rel", "")
        width = size if name.startswith("Translate") else 1

        def note(_, argument=0.0, *, name=NAMES[name], width=width, **__):
            draws[-1].append((name, float(argument) * width))

        operation.aug_fn = note
    for _ in range(count):
        draws.append([])
        policy(None)
    return [tuple(d) for d in draws]


def test_rand_augment_is_distributed_as_timms():
    assert_same_distribution(ours("rand_augment", N), timm_draws("rand-m7-mstd0.5-inc1", N))


def test_rand_augment_without_noise_is_timms():
    assert values(ours("rand_augment, no noise", 20_000)) == values(timm_draws("rand-m9-inc1", 20_000, 160))


def test_color_jitter_is_distributed_as_torchvisions():
    brightness, contrast, saturation, hue = JITTER
    torch.manual_seed(0)
    jitter = v2.ColorJitter(brightness, contrast, saturation, hue)
    names = ("brightness", "contrast", "color", "hue")
    theirs = []
    for _ in range(N // 4):
        p = jitter.make_params([])
        factors = [p[f"{n}_factor"] for n in ("brightness", "contrast", "saturation", "hue")]
        theirs.append(tuple((names[n], factors[n]) for n in p["fn_idx"].tolist()))
    assert_same_distribution(ours("color_jitter", N), theirs)


def test_color_jitter_leaves_out_what_has_no_strength():
    chosen = color_jitter(0, some(200), (0.0, 0.5, 0.0, 0.0))
    assert {tuple(o.name for o in c) for c in chosen} == {("contrast",)}


@pytest.mark.parametrize("policy", POLICIES)
def test_a_sample_does_not_see_its_neighbours(policy):
    rng = np.random.default_rng(1)
    samples = Samples(rng.integers(0, 3, 64), rng.permutation(1000)[:64], rng.integers(0, 4, 64))
    whole = POLICIES[policy](9, samples)
    for n in range(64):
        assert POLICIES[policy](9, samples.only(slice(n, n + 1))) == [whole[n]]


@pytest.mark.parametrize("policy", POLICIES)
def test_seed_epoch_and_repetition_change_the_draws(policy):
    one = POLICIES[policy](0, some(200))
    others = [
        POLICIES[policy](1, some(200)),
        POLICIES[policy](0, some(200, epoch=1)),
        POLICIES[policy](0, some(200, repetition=1)),
    ]
    for other in others:
        assert np.mean([a != b for a, b in zip(one, other, strict=True)]) > 0.6


def test_what_is_chosen_exists_and_is_read_as_asked():
    for policy, interpolation in (
        ("trivial_augment", "bilinear"),
        ("auto_augment", "bicubic"),
        ("rand_augment", "bicubic"),
    ):
        for operation in {o for chosen in POLICIES[policy](3, some(2000)) for o in chosen}:
            assert operation.name in OPERATIONS
            assert operation.interpolation == interpolation


def test_our_choices_never_change():
    """Else a resumed run would go on with other operations than it began with."""
    samples = Samples(np.array([0, 1, 2**33]), np.array([0, 7, 1_281_166]), np.array([0, 3, 1]))
    chosen = {
        policy: [[(o.name, round(o.argument, 6)) for o in c] for c in POLICIES[policy](42, samples)]
        for policy in POLICIES
    }
    assert chosen == {
        "trivial_augment": [[("rotate", 27.0)], [("solarize", 204.000003)], [("color", 1.429)]],
        "auto_augment": [
            [("equalize", 0.0)],
            [("solarize", 113.333334), ("auto-contrast", 0.0)],
            [("invert", 0.0), ("equalize", 0.0)],
        ],
        "rand_augment": [
            [("solarize", 66.0), ("sharpness", 1.677134)],
            [("shear-y", -0.213701), ("brightness", 1.635276)],
            [("contrast", 1.640154)],
        ],
        "rand_augment, no noise": [
            [("solarize", 26.0), ("sharpness", 1.81)],
            [("shear-y", -0.27), ("brightness", 1.81)],
            [("contrast", 1.81)],
        ],
        "color_jitter": [
            [("hue", -0.09727), ("color", 0.4613), ("contrast", 1.032579), ("brightness", 1.020683)],
            [("brightness", 0.729297), ("contrast", 1.141788), ("color", 0.114014), ("hue", -0.066152)],
            [("hue", -0.050819), ("brightness", 0.699387), ("color", 2.123996), ("contrast", 0.924707)],
        ],
    }
