"""`--weights hf:OWNER/NAME` on the command line, from a server on the loopback."""

import json

import pytest
import torch
from safetensors.torch import save

from resnetctl.data.prepare import prepare
from tests.fixtures.hub import hub_server

timm = pytest.importorskip("timm")
pytest.importorskip("huggingface_hub")


def test_train_and_eval_start_from_timms_weights(cli, tmp_path):
    prepare(tmp_path / "data", kind="sample")
    torch.manual_seed(0)
    weights = timm.create_model("resnet18", num_classes=10).state_dict()
    look = {"input_size": [3, 32, 32], "crop_pct": 1.0, "interpolation": "bicubic", "mean": [0.5] * 3, "std": [0.5] * 3}
    with hub_server() as hub:
        hub.files["timm/resnet18.x"] = {
            "config.json": json.dumps({"architecture": "resnet18", "pretrained_cfg": look}).encode(),
            "model.safetensors": save(weights),
        }
        env = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": None, "HF_TOKEN": None}
        start = ("--weights", "hf:timm/resnet18.x", "--arch", "resnet18")

        small = [f"--set=data.{key}=32" for key in ("train_size", "val_size", "val_resize")]
        done = cli("train", *start, *small, "--max-steps", "1", "--batch-size", "8", "--workers", "0", env=env)
        assert done.returncode == 0, done.stderr
        assert "recipe finetune" in done.stderr
        assert "downloading model.safetensors of timm/resnet18.x" in done.stderr

        done = cli("eval", *start, "--json", "--workers", "0", env=env | {"HF_HUB_OFFLINE": "1"})
        assert done.returncode == 0, done.stderr
        assert "hf:timm/resnet18.x" in done.stdout

        done = cli("train", *start[:2], "--arch", "resnet34", env=env)
        assert done.returncode == 2
        assert "hf:timm/resnet18.x is a resnet18, not a resnet34" in done.stderr
        assert "--arch resnet18" in done.stderr
