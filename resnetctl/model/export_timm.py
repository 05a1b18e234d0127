"""A folder that `timm.create_model` loads, in the Hugging Face Hub's form: config, weights, model card."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from torch import nn

from resnetctl.errors import UsageError
from resnetctl.model.description import ModelDescription
from resnetctl.model.export import write_safetensors
from resnetctl.model.resnet import HEAD

FILES = ("README.md", "config.json", "model.safetensors")
"""The folder's files."""


def check_timm(description: ModelDescription) -> None:
    """Raise UsageError if timm has no such network."""
    if description.network != description.arch:
        raise UsageError(
            f"timm has no network like this {description.arch} with BlurPool: its resnetblur50 blurs behind the 3×3 "
            "convolutions and pads by reflection",
            hint="--format onnx and torch-export include the network; safetensors has its weights",
        )


def write_timm(network: nn.Module, description: ModelDescription, card: str, folder: Path) -> None:
    """Make `folder`; `card` is its README.md. Raises UsageError if timm has no such network."""
    check_timm(description)
    folder.mkdir()
    write_safetensors(network, description, folder / "model.safetensors")
    config = json.dumps(_config(network, description), indent=2, ensure_ascii=True)
    (folder / "config.json").write_text(config + "\n", encoding="utf-8")
    (folder / "README.md").write_text(card, encoding="utf-8")


def _config(network: Any, description: ModelDescription) -> dict[str, Any]:
    look, classes, names = description.preprocessing, description.classes, description.class_names
    config: dict[str, Any] = {
        "architecture": description.arch,
        "num_classes": len(classes),
        "num_features": network.fc.in_features,
        "global_pool": "avg",
        "label_names": list(classes),
        "label_descriptions": dict(zip(classes, names, strict=True)),
        "pretrained_cfg": {
            "input_size": [3, look.crop, look.crop],
            "fixed_input_size": False,
            "interpolation": look.interpolation,
            "crop_pct": crop_share(look.crop, look.resize),
            "crop_mode": "center",
            "mean": list(look.mean),
            "std": list(look.std),
            "num_classes": len(classes),
            "pool_size": [-(-look.crop // 32)] * 2,
            "first_conv": "conv1",
            "classifier": HEAD,
        },
    }
    return config


def crop_share(crop: int, resize: int) -> float:
    """The `crop_pct` for which timm's floor(crop / crop_pct) is `resize`; plain crop / resize may round down."""
    share = crop / resize
    return share if math.floor(crop / share) == resize else crop / (resize + 0.5)
