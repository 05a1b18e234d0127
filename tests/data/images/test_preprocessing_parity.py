"""What evaluation feeds to the model, against torchvision's own preset on Pillow, on 100 photographs of many sizes."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms._presets import ImageClassification
from torchvision.transforms.functional import InterpolationMode

from resnetctl.data.images.decode import centre, decode
from resnetctl.engine.normalise import Normalise
from resnetctl.model.resnet import build_model
from resnetctl.recipe import ModelRecipe
from tests.fixtures.photos import many_sizes

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    paths = many_sizes(tmp_path_factory.mktemp("photos"), 100)
    assert len({Image.open(p).size for p in paths}) > 50
    return paths


def preset(path, resize, size, interpolation):
    """`[3, size, size] float32`, normalised: torchvision's preset fed by Pillow, as its documentation shows."""
    transform = ImageClassification(
        crop_size=size, resize_size=resize, interpolation=InterpolationMode(interpolation), mean=MEAN, std=STD
    )
    return transform(Image.open(path).convert("RGB"))


@pytest.mark.parametrize(
    ("resize", "size", "interpolation"),
    [(256, 224, "bilinear"), (293, 256, "bilinear"), (236, 224, "bicubic")],
)
def test_pixels_agree_with_torchvisions_preset(photos, resize, size, interpolation):
    std = torch.tensor(STD).view(3, 1, 1) * 255
    differences = []
    for path in photos:
        ours = Normalise(MEAN, STD, torch.device("cpu"))(
            centre(decode(path.read_bytes()), resize, size, interpolation)[None]
        )
        theirs = preset(path, resize, size, interpolation)
        assert ours[0].shape == theirs.shape
        differences.append(float(((ours[0] - theirs) * std).abs().mean()))
    print(f"mean absolute difference {np.mean(differences):.4f} of 255, the worst picture {max(differences):.4f}")
    assert max(differences) < 0.5


def test_the_same_weights_choose_the_same_class(photos):
    """Weights that tell these very photographs apart, 20 classes of five: a last layer fitted to random features."""
    torch.manual_seed(0)
    model = build_model(ModelRecipe(arch="resnet18", zero_init_residual=False), 20)
    normalise = Normalise(MEAN, STD, torch.device("cpu"))
    ours = torch.cat([normalise(centre(decode(p.read_bytes()), 256, 224, "bilinear")[None]) for p in photos])
    theirs = torch.stack([preset(p, 256, 224, "bilinear") for p in photos])
    labels = torch.arange(len(photos)) % 20
    last, model.fc = model.fc, torch.nn.Identity()
    with torch.no_grad():
        model.train()(theirs[::2])  # statistics of real pictures
        model.eval()
        features = torch.cat([model(part) for part in theirs.split(25)])
        scale = features.std(0).mean()
        centred = torch.cat(((features - features.mean(0)) / scale, torch.ones(len(photos), 1)), 1)
        targets = torch.nn.functional.one_hot(labels, 20).float()
        solution = torch.linalg.solve(centred @ centred.T + 0.01 * torch.eye(len(photos)), targets)
        weight = centred.T @ solution
        last.weight.copy_(weight[:-1].T / scale)
        last.bias.copy_(weight[-1] - last.weight @ features.mean(0))
        model.fc = last
        a = torch.cat([model(part).argmax(1) for part in ours.split(25)])
        b = torch.cat([model(part).argmax(1) for part in theirs.split(25)])
    agreement = int((a == b).sum())
    print(f"top-1 agrees on {agreement} of {len(photos)}; {int((b == labels).sum())} are right")
    assert len(set(b.tolist())) == 20
    assert agreement >= 99
