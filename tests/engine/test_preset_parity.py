"""A checkpoint measured by torchvision's own preset in a plain loop: the same counts."""

import pytest
import torch
import torchvision
from safetensors.torch import load_file
from torchvision.datasets import ImageFolder
from torchvision.transforms._presets import ImageClassification

from resnetctl.data.index import Index
from resnetctl.engine.measure import Images, measure
from resnetctl.engine.models import Asked, find_model
from resnetctl.recipe import Override
from resnetctl.suites import Chosen
from tests.fixtures.models import write_run
from tests.fixtures.photos import jpeg, tile
from tests.fixtures.small_index import write_index

CLASSES = tuple(f"class{c}" for c in range(8))
PICTURES = 96
RESIZE, SIZE = 80, 64


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    root = tmp_path_factory.mktemp("parity")
    sizes = [(90 + 37 * i % 200, 80 + 53 * i % 170) for i in range(PICTURES)]
    files = {f"{CLASSES[i % 8]}/{i:03d}.jpg": jpeg(tile(i, *size)) for i, size in enumerate(sizes)}
    index = Index(write_index(root, files, split="val"))
    return root, index, write_run(root, "first", CLASSES) / "checkpoints" / "step-00000001.safetensors"


def plain_loop(root, file, flip=False):
    """Top-1 and top-5 with torchvision's folder, preset and model."""
    tensors = load_file(file)
    model = torchvision.models.resnet18(num_classes=len(CLASSES))
    model.load_state_dict({k.removeprefix("model."): t for k, t in tensors.items()})
    model.eval()
    images = ImageFolder(root / "val", ImageClassification(crop_size=SIZE, resize_size=RESIZE))
    assert images.classes == list(CLASSES)
    correct1 = correct5 = 0
    with torch.no_grad():
        for image, label in torch.utils.data.DataLoader(images, batch_size=16):
            logits = model(image)
            if flip:
                logits = (logits + model(image.flip(3))) / 2
            top = logits.topk(5, dim=1).indices
            correct1 += (top[:, 0] == label).sum().item()
            correct5 += (top == label[:, None]).any(1).sum().item()
    return correct1, correct5, len(images)


@pytest.mark.parametrize("flip", [False, True])
def test_the_counts_are_those_of_torchvisions_preset_in_a_plain_loop(flip, measured, monkeypatch, tmp_path):
    root, index, file = measured
    values = {"data.val_resize": RESIZE, "data.val_size": SIZE, "data.val_flip_average": flip}
    asked = Asked(
        runs=root,
        device=torch.device("cpu"),
        classes=lambda: ((), ()),
        overrides=tuple(Override(k, v, "test") for k, v in values.items()),
    )
    images = Images(root, tmp_path)
    monkeypatch.setattr(Images, "val", index)
    (found,) = measure(find_model(str(file), asked), [Chosen("val", None)], images, workers=0)
    assert (found.correct1, found.correct5, found.images) == plain_loop(root, file, flip)
    assert 0 < found.correct1 < found.correct5 < PICTURES
