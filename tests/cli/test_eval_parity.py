"""`resnetctl eval` beside torchvision's own preset and a plain loop, on the same checkpoint: the same counts."""

import json

import pytest
import torch
import torchvision
from safetensors.torch import load_file
from torch.utils.data import DataLoader
from torchvision.transforms._presets import ImageClassification
from torchvision.transforms.functional import InterpolationMode

from resnetctl.data.prepare import prepare
from resnetctl.recipe import change_recipe, load_recipe
from resnetctl.runs.checkpoint import save_checkpoint
from tests.fixtures.checkpoints import checkpoint
from tests.fixtures.models import network, overrides
from tests.fixtures.photos import many_sizes

CLASSES = tuple("abcdefgh")
RESIZE, SIZE = 72, 64


@pytest.fixture(scope="module", params=["bilinear", "bicubic"])
def run(request, tmp_path_factory):
    """Photographs of many sizes in eight classes, and a run that tells most of them apart."""
    root = tmp_path_factory.mktemp("parity")
    photos = many_sizes(root / "photos", 120)
    for n, photo in enumerate(photos):
        for split in ("train", "val"):
            target = root / "tree" / split / CLASSES[n % len(CLASSES)] / photo.name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.hardlink_to(photo)
    prepare(root / "data", root / "tree", "folder")
    preset = ImageClassification(crop_size=SIZE, resize_size=RESIZE, interpolation=InterpolationMode(request.param))
    val = torchvision.datasets.ImageFolder(root / "tree" / "val", preset)
    model = fitted(val)
    values = {"data__val_resize": RESIZE, "data__val_size": SIZE, "data__interpolation": request.param}
    recipe = change_recipe(load_recipe("small"), overrides(**values))
    folder = root / "runs" / "first" / "checkpoints"
    folder.mkdir(parents=True)
    tensors = {f"model.{k}": t for k, t in model.state_dict().items()}
    commit = save_checkpoint(folder, checkpoint(1, tensors, recipe=recipe, classes=CLASSES, class_names=CLASSES))
    return root, val, commit.path


def fitted(val) -> torch.nn.Module:
    """Random features, and a last layer fitted to most of the pictures: some are wrong, few of them narrowly."""
    model = network(len(CLASSES))
    last, model.fc = model.fc, torch.nn.Identity()
    pictures, labels = zip(*(val[i] for i in range(len(val))), strict=True)
    with torch.inference_mode():
        features = model.eval()(torch.stack(pictures)).double()
    wanted = torch.nn.functional.one_hot(torch.tensor(labels)).double()
    known = torch.arange(len(labels)) % 10 < 7
    ridge = features[known].T @ features[known] + 0.1 * torch.eye(features.shape[1], dtype=torch.float64)
    weight = torch.linalg.solve(ridge, features[known].T @ (wanted[known] - 0.125))
    with torch.no_grad():
        last.weight.copy_(weight.T)
        last.bias.zero_()
    model.fc = last
    return model


def test_the_counts_are_those_of_torchvisions_preset_and_a_plain_loop(run, cli):
    root, val, path = run
    state = {k.removeprefix("model."): t for k, t in load_file(path).items() if k.startswith("model.")}
    model = torchvision.models.resnet18(num_classes=len(CLASSES))
    model.load_state_dict(state)
    model.eval()
    correct1 = correct5 = 0
    with torch.inference_mode():
        for images, labels in DataLoader(val, batch_size=7):
            top = model(images).topk(5, dim=1).indices
            correct1 += int((top[:, 0] == labels).sum())
            correct5 += int((top == labels[:, None]).any(1).sum())
    assert 40 < correct1 < 115
    env = {"RESNETCTL_DATA": str(root / "data"), "RESNETCTL_RUNS": str(root / "runs")}
    done = cli("eval", "first", "--json", "--device", "cpu", env=env)
    assert done.returncode == 0, done.stderr
    (result,) = json.loads(done.stdout)["results"]
    assert (result["images"], result["correct1"], result["correct5"]) == (120, correct1, correct5)
