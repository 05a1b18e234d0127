"""Augmentation policies as pure functions of (seed, epoch, sample, repetition): TrivialAugment, RandAugment,
AutoAugment, colour jitter.

The distributions are torchvision's (TrivialAugmentWide, AutoAugment, ColorJitter of torchvision.transforms.v2) and
timm's (RandAugment of timm.data.auto_augment); the operations are in `resnetctl.data.images.operations`.
"""

from __future__ import annotations

from statistics import NormalDist

import torch

from resnetctl.data.batches.order import JITTER, OPERATIONS, Samples, uniforms
from resnetctl.data.images.operations import Color, Operation
from resnetctl.recipe import DataRecipe

Chosen = tuple[Operation, ...]
"""One sample's operations, in order of application."""


def draw_operations(data: DataRecipe, seed: int, samples: Samples, size: int) -> list[Chosen]:
    """The operations of the recipe's `augment`, then `color_jitter`, for each sample of `size` × `size` pixels."""
    match data.augment:
        case "trivial-augment-wide":
            chosen = trivial_augment(seed, samples, data.interpolation)
        case "auto-augment":
            chosen = auto_augment(seed, samples, data.interpolation)
        case "rand-augment":
            chosen = rand_augment(seed, samples, *data.rand_augment, size, data.interpolation)
        case _:
            chosen = [()] * len(samples.sample)
    if any(data.color_jitter):
        jitter = color_jitter(seed, samples, data.color_jitter)
        chosen = [a + b for a, b in zip(chosen, jitter, strict=True)]
    return chosen


def fill_color(data: DataRecipe) -> Color:
    """The colour beyond a moved image's border: black, as in torchvision; with RandAugment the mean, as in timm."""
    if data.augment != "rand-augment":
        return 0, 0, 0
    red, green, blue = (round(255 * x) for x in data.mean)
    return red, green, blue


def trivial_augment(seed: int, samples: Samples, interpolation: str) -> list[Chosen]:
    """One of 14 operations at one of 31 strengths for each sample (Müller, Hutter 2021, arXiv:2103.10158, "wide")."""
    names = list(_WIDE)
    numbers = uniforms(seed, OPERATIONS, samples, 3).T.tolist()
    return [_torchvision(_WIDE, names[int(u * len(names))], int(v * 31), w < 0.5, interpolation) for u, v, w in numbers]


def auto_augment(seed: int, samples: Samples, interpolation: str) -> list[Chosen]:
    """One of the 25 pairs of operations found for ImageNet (Cubuk et al. 2018, arXiv:1805.09501)."""
    chosen = []
    for pair, *numbers in uniforms(seed, OPERATIONS, samples, 5).T.tolist():
        found: Chosen = ()
        for (name, probability, level), u, v in zip(
            _IMAGENET[int(pair * len(_IMAGENET))], numbers[::2], numbers[1::2], strict=True
        ):
            if u < probability:
                found += _torchvision(_FOUND, name, level, v < 0.5, interpolation)
        chosen.append(found)
    return chosen


def rand_augment(
    seed: int, samples: Samples, magnitude: float, std: float, size: int, interpolation: str
) -> list[Chosen]:
    """Two draws from 15 operations, each applied with probability 0.5 (Cubuk et al. 2019, arXiv:1909.13719).

    timm's form `rand-m{magnitude}-mstd{std}-inc1`: the strength is normally distributed and clipped to [0, 10].
    Translations are shares of `size` pixels.
    """
    strength = NormalDist(magnitude, std) if std else None
    chosen = []
    for numbers in uniforms(seed, OPERATIONS, samples, 8).T.tolist():
        found: Chosen = ()
        for which, applied, level, sign in (numbers[:4], numbers[4:]):
            if applied < 0.5:
                m = strength.inv_cdf(level + 2**-54) if strength else magnitude  # its argument may not be 0
                name = _RAND[int(which * len(_RAND))]
                argument = _timm(name, min(max(m, 0.0), 10.0), -1 if sign < 0.5 else 1, size)
                found += (Operation(name, argument, interpolation),)
        chosen.append(found)
    return chosen


def color_jitter(seed: int, samples: Samples, strength: tuple[float, float, float, float]) -> list[Chosen]:
    """Brightness, contrast, saturation and hue in random order, each by a factor uniform in 1 ± its strength.

    The hue is rotated by a fraction of the colour circle uniform in ± its strength.
    """
    chosen = []
    for numbers in uniforms(seed, JITTER, samples, 8).T.tolist():
        found = {}
        for name, s, u in zip(("brightness", "contrast", "color", "hue"), strength, numbers[:4], strict=True):
            low, high = (-s, s) if name == "hue" else (max(0.0, 1 - s), 1 + s)
            if s:
                found[name] = Operation(name, low + (high - low) * u)
        order = sorted(range(4), key=numbers[4:].__getitem__)
        names = [("brightness", "contrast", "color", "hue")[n] for n in order]
        chosen.append(tuple(found[name] for name in names if name in found))
    return chosen


# --- torchvision's strengths ----------------------------------------------------------------------------------------

_FACTORS = ("brightness", "color", "contrast", "sharpness")
_SIGNED = ("shear-x", "shear-y", "translate-x", "translate-y", "rotate", *_FACTORS)


def _levels(start: float, end: float, count: int) -> list[float]:
    """By torch, as in torchvision: a translation at level 15 of 31 is 15.999999 pixels, truncated to 15."""
    return torch.linspace(start, end, count).tolist()


def _strengths(count: int, *, shear: float, rotate: float, factor: float, bits: int) -> dict[str, list[float]]:
    """Each operation's strengths, `count` of them from weakest to strongest; empty if it takes none."""
    return {
        "shear-x": _levels(0.0, shear, count),
        "shear-y": _levels(0.0, shear, count),
        "rotate": _levels(0.0, rotate, count),
        **{name: _levels(0.0, factor, count) for name in _FACTORS},
        "posterize": [float(round(8 - n * bits / (count - 1))) for n in range(count)],
        "solarize": [255.0 * x for x in _levels(1.0, 0.0, count)],
        "auto-contrast": [],
        "equalize": [],
    }


_WIDE = {
    "identity": [],
    "translate-x": _levels(0.0, 32.0, 31),
    "translate-y": _levels(0.0, 32.0, 31),
    **_strengths(31, shear=0.99, rotate=135.0, factor=0.99, bits=6),
}
_FOUND = {"invert": [], **_strengths(10, shear=0.3, rotate=30.0, factor=0.9, bits=4)}


def _torchvision(
    strengths: dict[str, list[float]], name: str, level: int, negative: bool, interpolation: str
) -> Chosen:
    if name == "identity":
        return ()
    strength = strengths[name][level] if strengths[name] else 0.0
    if negative and name in _SIGNED:
        strength = -strength
    if name in _FACTORS:
        strength += 1.0
    if name.startswith("translate"):
        strength = float(-int(strength))
    return (Operation(name, strength, interpolation),)


_Step = tuple[str, float, int]
_IMAGENET: tuple[tuple[_Step, _Step], ...] = (  # operation, probability, level
    (("posterize", 0.4, 8), ("rotate", 0.6, 9)),
    (("solarize", 0.6, 5), ("auto-contrast", 0.6, 0)),
    (("equalize", 0.8, 0), ("equalize", 0.6, 0)),
    (("posterize", 0.6, 7), ("posterize", 0.6, 6)),
    (("equalize", 0.4, 0), ("solarize", 0.2, 4)),
    (("equalize", 0.4, 0), ("rotate", 0.8, 8)),
    (("solarize", 0.6, 3), ("equalize", 0.6, 0)),
    (("posterize", 0.8, 5), ("equalize", 1.0, 0)),
    (("rotate", 0.2, 3), ("solarize", 0.6, 8)),
    (("equalize", 0.6, 0), ("posterize", 0.4, 6)),
    (("rotate", 0.8, 8), ("color", 0.4, 0)),
    (("rotate", 0.4, 9), ("equalize", 0.6, 0)),
    (("equalize", 0.0, 0), ("equalize", 0.8, 0)),
    (("invert", 0.6, 0), ("equalize", 1.0, 0)),
    (("color", 0.6, 4), ("contrast", 1.0, 8)),
    (("rotate", 0.8, 8), ("color", 1.0, 2)),
    (("color", 0.8, 8), ("solarize", 0.8, 7)),
    (("sharpness", 0.4, 7), ("invert", 0.6, 0)),
    (("shear-x", 0.6, 5), ("equalize", 1.0, 0)),
    (("color", 0.4, 0), ("equalize", 0.6, 0)),
    (("equalize", 0.4, 0), ("solarize", 0.2, 4)),
    (("solarize", 0.6, 5), ("auto-contrast", 0.6, 0)),
    (("invert", 0.6, 0), ("equalize", 1.0, 0)),
    (("color", 0.6, 4), ("contrast", 1.0, 8)),
    (("equalize", 0.8, 0), ("equalize", 0.6, 0)),
)


# --- timm's strengths -----------------------------------------------------------------------------------------------

_RAND = (
    "auto-contrast",
    "equalize",
    "invert",
    "rotate",
    "posterize",
    "solarize",
    "solarize-add",
    "color",
    "contrast",
    "brightness",
    "sharpness",
    "shear-x",
    "shear-y",
    "translate-x",
    "translate-y",
)


def _timm(name: str, m: float, sign: int, size: int) -> float:
    """The argument of an operation at strength `m` from 0 to 10; a higher strength always changes more."""
    share = m / 10.0
    if name == "rotate":
        return sign * share * 30.0
    if name == "posterize":
        return 4.0 - int(share * 4)
    if name == "solarize":
        return 256.0 - min(256, int(share * 256))
    if name == "solarize-add":
        return float(min(128, int(share * 110)))
    if name in _FACTORS:
        return max(0.1, 1.0 + sign * share * 0.9)
    if name.startswith("shear"):
        return sign * share * 0.3
    if name.startswith("translate"):
        return sign * share * 0.45 * size
    return 0.0
