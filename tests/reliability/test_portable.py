"""A checkpoint is a file that others can read: its mode, plain safetensors, torchvision and timm."""

import json
import os

import pytest
import torch
import torchvision
from safetensors import safe_open
from safetensors.torch import load_file

from tests.reliability.conftest import OPTIONS
from tests.reliability.test_faults import run


@pytest.fixture(scope="module")
def saved(zygote, tmp_path_factory):
    folder = tmp_path_factory.mktemp("portable")
    done = run(zygote, folder, *OPTIONS, "--name", "run", "--max-steps", "1", "--json")
    assert done.returncode == 0, done.err
    return folder / "run" / "checkpoints" / "step-00000001.safetensors"


def weights(saved) -> dict[str, torch.Tensor]:
    return {k.removeprefix("model."): t for k, t in load_file(saved).items() if k.startswith("model.")}


def torchvisions(saved) -> torch.nn.Module:
    model = torchvision.models.resnet18(num_classes=3)
    model.load_state_dict(weights(saved), strict=True)
    return model.eval()


def test_whoever_the_umask_allows_may_read_it(saved):
    umask = os.umask(0)
    os.umask(umask)
    assert saved.stat().st_mode & 0o777 == 0o644 & ~umask
    assert saved.with_suffix(".json").stat().st_mode & 0o777 == 0o644 & ~umask


def test_plain_safetensors_reads_tensors_and_metadata(saved):
    with safe_open(saved, "pt") as file:
        assert json.loads(file.metadata()["resnetctl"])["step"] == 1
        assert {name.partition(".")[0] for name in file.keys()} == {"model", "optimizer", "progress"}  # noqa: SIM118


def test_torchvision_loads_it_strictly(saved):
    torchvisions(saved)


def test_timm_loads_it_strictly_and_computes_the_same(saved):
    timm = pytest.importorskip("timm")
    model = timm.create_model("resnet18", num_classes=3)
    model.load_state_dict(weights(saved), strict=True)
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(model.eval()(images), torchvisions(saved)(images))
