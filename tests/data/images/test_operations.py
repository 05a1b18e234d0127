"""Each operation gives torchvision's and timm's pixels, both of which work on Pillow images."""

import math

import numpy as np
import pytest
from PIL import Image
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

from resnetctl.data.images.operations import OPERATIONS, Operation, apply
from tests.fixtures.photos import tile

FILL = (124, 116, 104)
SIGNED = ("shear-x", "shear-y", "translate-x", "translate-y", "rotate")
UNARY = ("auto-contrast", "equalize", "invert")
RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
MODES = {"bilinear": InterpolationMode.BILINEAR, "bicubic": InterpolationMode.BICUBIC}


def pictures():
    noise = np.random.default_rng(0).integers(0, 256, (97, 131, 3), dtype=np.uint8)
    flat = np.full((64, 64, 3), (10, 128, 255), np.uint8)
    return {"photograph": np.asarray(tile(1, 176, 176)), "noise": noise, "flat": flat, "pixel": noise[:1, :1].copy()}


PICTURES = pictures()


def torchvision_pixels(pixels, name, argument, interpolation):
    image = Image.fromarray(pixels)
    shift = {"interpolation": MODES[interpolation], "fill": list(FILL), "angle": 0.0, "scale": 1.0}
    straight, still = [0.0, 0.0], [0, 0]
    slope = math.degrees(math.atan(argument)) if name.startswith("shear") else 0.0
    done = {
        "auto-contrast": lambda: F.autocontrast(image),
        "equalize": lambda: F.equalize(image),
        "invert": lambda: F.invert(image),
        "posterize": lambda: F.posterize(image, int(argument)),
        "solarize": lambda: F.solarize(image, argument),
        "color": lambda: F.adjust_saturation(image, argument),
        "contrast": lambda: F.adjust_contrast(image, argument),
        "brightness": lambda: F.adjust_brightness(image, argument),
        "sharpness": lambda: F.adjust_sharpness(image, argument),
        "hue": lambda: F.adjust_hue(image, argument),
        "rotate": lambda: F.rotate(image, argument, interpolation=MODES[interpolation], fill=list(FILL)),
        "shear-x": lambda: F.affine(image, translate=still, shear=[slope, 0.0], center=[0, 0], **shift),
        "shear-y": lambda: F.affine(image, translate=still, shear=[0.0, slope], center=[0, 0], **shift),
        "translate-x": lambda: F.affine(image, translate=[-int(argument), 0], shear=straight, **shift),
        "translate-y": lambda: F.affine(image, translate=[0, -int(argument)], shear=straight, **shift),
    }
    return np.asarray(done[name]())


TORCHVISION = [
    *[(name, 0.0) for name in UNARY],
    *[("posterize", float(bits)) for bits in range(2, 9)],
    *[("solarize", threshold) for threshold in (0.0, 8.5, 127.5, 238.00000101327896, 255.0)],
    *[(name, f) for name in ("color", "contrast", "brightness", "sharpness") for f in (0.01, 0.5, 1.0, 1.33, 1.99)],
    *[("hue", turn) for turn in (-0.5, -0.1, 0.0, 0.3)],
    *[("rotate", degrees) for degrees in (-135.0, -17.3, 0.0, 4.5, 30.0)],
    *[(name, slope) for name in ("shear-x", "shear-y") for slope in (-0.99, -0.165, 0.0, 0.3)],
    *[(name, pixels) for name in ("translate-x", "translate-y") for pixels in (-32.0, -7.0, 0.0, 15.0)],
]


def assert_same(ours, theirs, name):
    difference = np.abs(ours.astype(int) - theirs)
    if name.split("-")[0] in ("shear", "translate"):
        assert difference.max() <= 1
        assert difference.mean() < 0.03  # where a value is nearly a whole number
    else:
        assert not difference.any()


@pytest.mark.parametrize("picture", PICTURES)
@pytest.mark.parametrize(("name", "argument"), TORCHVISION)
def test_pixels_are_torchvisions(name, argument, picture):
    pixels = PICTURES[picture]
    for interpolation in MODES if name in SIGNED else ["bilinear"]:
        ours = apply(pixels, [Operation(name, argument, interpolation)], FILL)
        assert_same(ours, torchvision_pixels(pixels, name, argument, interpolation), name)


TIMM = {
    **{name: [0.0] for name in UNARY},
    "posterize": [1.0, 2.0, 3.0, 4.0],
    "solarize": [0.0, 77.0, 256.0],
    "solarize-add": [0.0, 77.0, 110.0],
    **{name: [0.1, 0.37, 1.63, 1.9] for name in ("color", "contrast", "brightness", "sharpness")},
    "rotate": [-30.0, -21.3, 20.1],
    **{name: [-0.3, -0.2103, 0.1987] for name in ("shear-x", "shear-y")},
    **{name: [-79.1713, -55.437, 51.2193] for name in ("translate-x", "translate-y")},
}


@pytest.mark.parametrize("picture", ["photograph", "noise", "flat"])
@pytest.mark.parametrize(("name", "argument"), [(name, a) for name, given in TIMM.items() for a in given])
def test_pixels_are_timms(name, argument, picture):
    timm = pytest.importorskip("timm.data.auto_augment")
    pixels = PICTURES[picture]
    operation = {"translate-x": timm.translate_x_abs, "translate-y": timm.translate_y_abs}.get(name)
    operation = operation or getattr(timm, name.replace("-", "_"))
    arguments = [int(argument) if name in ("posterize", "solarize-add") else argument] if name not in UNARY else []
    for interpolation, resample in RESAMPLING.items():
        theirs = operation(Image.fromarray(pixels), *arguments, resample=resample, fillcolor=FILL)
        assert_same(apply(pixels, [Operation(name, argument, interpolation)], FILL), np.asarray(theirs), name)


def test_no_bits_are_black():
    assert not apply(PICTURES["noise"], [Operation("posterize", 0.0)], FILL).any()


def test_an_even_colour_stays_even_wherever_it_is_moved():
    for name, argument in (("shear-x", 0.7771), ("shear-y", -0.3), ("translate-x", 3.3), ("translate-y", -20.9)):
        for interpolation in MODES:
            operation = Operation(name, argument, interpolation)
            assert (apply(PICTURES["flat"], [operation], (10, 128, 255)) == PICTURES["flat"]).all()


def test_operations_follow_one_another():
    pixels = PICTURES["photograph"]
    both = [Operation("posterize", 3.0), Operation("rotate", 12.0)]
    one = apply(apply(pixels, both[:1], FILL), both[1:], FILL)
    assert (apply(pixels, both, FILL) == one).all()
    assert (apply(pixels, both, FILL) != apply(pixels, both[::-1], FILL)).any()
    assert apply(pixels, [], FILL) is pixels


def test_every_operation_is_compared():
    assert {name for name, _ in TORCHVISION} | {*TIMM} == {*OPERATIONS}
