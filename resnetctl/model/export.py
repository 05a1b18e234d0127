"""A model written for other programs: safetensors, ONNX, and a program of torch.export (timm's folder: `export_timm`).

All have the float32 weights and the description of the model. The graphs take any number of images at once.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

from resnetctl.model.description import KEY, ModelDescription
from resnetctl.model.resnet import BlurConv2d, BlurMaxPool2d

INPUT, OUTPUT = "images", "logits"
"""What the graphs call what they take and what they give."""

_TRACED_IMAGES = 2  # with one, the batch would be taken for a constant


class FromPixels(nn.Module):
    """A network with the normalisation in front, in the arithmetic of `engine.normalise`."""

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, network: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(mean).mul(255).view(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor(std).mul(255).reciprocal().view(1, 3, 1, 1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """`[B, 3, H, W] uint8` to `[B, C] float32`."""
        logits: torch.Tensor = self.network((images.float() - self.mean) * self.scale)
        return logits


def exported_tensors(network: nn.Module) -> dict[str, torch.Tensor]:
    """The state dict, with the constant kernels of BlurPool, so that no strict load takes it for a plain ResNet's."""
    blurred = {n: m for n, m in network.named_modules() if isinstance(m, BlurConv2d | BlurMaxPool2d)}
    kernels = {f"{name}.blur": module.blur for name, module in blurred.items()}
    return {name: tensor.contiguous() for name, tensor in {**network.state_dict(), **kernels}.items()}


def write_safetensors(network: nn.Module, description: ModelDescription, path: Path) -> None:
    """The weights under torchvision's names."""
    from safetensors.torch import save_file

    # one entry: several stand in a random order, and the same model would give other bytes each time
    save_file(exported_tensors(network), path, {KEY: description.to_text()})


def write_program(network: nn.Module, description: ModelDescription, path: Path) -> None:
    """A program of torch.export, which needs none of our code."""
    program = _traced(network, description)
    with _quiet():
        torch.export.save(program, path, extra_files={KEY: description.to_text()})


def write_onnx(network: nn.Module, description: ModelDescription, path: Path) -> None:
    """An ONNX graph with its weights in the same file, of which the description is part of the metadata."""
    import onnx

    with _quiet():
        exported = torch.onnx.export(
            _traced(network, description),
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamo=True,
            verbose=False,
            external_data=False,
        )
    assert exported is not None
    model = exported.model_proto
    model.doc_string = model.graph.doc_string = usage(network, description)
    model.graph.name = description.network
    onnx.helper.set_model_props(model, {KEY: description.to_text()})
    onnx.checker.check_model(model)
    onnx.save_model(model, path)


def usage(network: nn.Module, description: ModelDescription) -> str:
    """What goes in and what comes out, in words."""
    look, n = description.preprocessing, description.preprocessing.crop
    made = (
        f"RGB pictures, their shorter side resized to {look.resize} ({look.interpolation}, antialiased), of which the "
        f"central {n}x{n} is cut out"
    )
    if isinstance(network, FromPixels):
        taken = f"{INPUT}: uint8 [batch, 3, {n}, {n}], 0 to 255: {made}; they are normalised inside"
    else:
        taken = (
            f"{INPUT}: float32 [batch, 3, {n}, {n}]: {made}; scaled to 0..1, less the mean "
            f"{list(look.mean)}, divided by {list(look.std)}"
        )
    return (
        f"{description.network}, {description.source}. {taken}. {OUTPUT}: float32 [batch, {len(description.classes)}]; "
        f"their softmax are probabilities. The metadata {KEY} names the classes in their order."
    )


def _traced(network: nn.Module, description: ModelDescription) -> torch.export.ExportedProgram:
    size = description.preprocessing.crop
    kind = torch.uint8 if isinstance(network, FromPixels) else torch.float32
    example = torch.zeros(_TRACED_IMAGES, 3, size, size, dtype=kind)
    shapes = {INPUT: {0: torch.export.Dim("batch", min=1)}}
    with _quiet():
        return torch.export.export(_Named(network).eval(), (example,), dynamic_shapes=shapes)


class _Named(nn.Module):
    """Gives the input its name, whatever the network calls it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.network(images)
        return logits


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporters say of their own insides."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
