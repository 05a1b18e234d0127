"""Opens exported models as their users do: by their own runtime, without our networks if it has its own."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from resnetctl.model.description import ModelDescription
from resnetctl.model.export import INPUT, OUTPUT
from resnetctl.model.resnet import build_model


@dataclass(frozen=True)
class Opened:
    """An exported model, ready to run."""

    runtime: str
    """The runtime and its version."""
    logits: Callable[[torch.Tensor], torch.Tensor]
    """`[B, 3, H, W]` normalised float32, or uint8 if the file says so, to `[B, C] float32`."""


def open_exported(kind: str, path: Path, description: ModelDescription) -> Opened:
    """The exported model at `path`, of the same kinds as in `engine.export`."""
    match kind:
        case "safetensors":
            return _weights(path, description)
        case "timm":
            return _timm(path)
        case "onnx":
            return _onnx(path)
        case "torch-export":
            return _program(path)
    raise AssertionError(kind)


def _weights(path: Path, description: ModelDescription) -> Opened:
    import torchvision
    from safetensors.torch import load_file

    tensors, classes = load_file(path), len(description.classes)
    if description.network == description.arch:
        network, runtime = getattr(torchvision.models, description.arch)(num_classes=classes), "torchvision"
    else:  # not in torchvision
        network, runtime = build_model(description.model, classes), "resnetctl on torchvision"
        tensors = {name: tensor for name, tensor in tensors.items() if not name.endswith(".blur")}
    network.load_state_dict(tensors, strict=True)
    return Opened(f"{runtime} {torchvision.__version__}", _asked(network.eval()))


def _timm(path: Path) -> Opened:
    import timm

    network = timm.create_model(f"local-dir:{path}", pretrained=True)
    return Opened(f"timm {timm.__version__}", _asked(network.eval()))


def _program(path: Path) -> Opened:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = torch.export.load(path).module()
    return Opened(f"torch.export {torch.__version__}", _asked(network))  # fixed in evaluation mode


def _asked(network: nn.Module) -> Callable[[torch.Tensor], torch.Tensor]:
    def logits(images: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            found: torch.Tensor = network(images)
        return found

    return logits


def _onnx(path: Path) -> Opened:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def logits(images: torch.Tensor) -> torch.Tensor:
        (found,) = session.run([OUTPUT], {INPUT: images.numpy()})
        return torch.from_numpy(found)

    return Opened(f"onnxruntime {onnxruntime.__version__}", logits)
