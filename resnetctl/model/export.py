"""Writes a model for other programs: safetensors, ONNX, and a torch.export program (timm's folder: `export_timm`).

All contain the float32 weights and the description of the model. The graphs take batches of any size.
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
"""Names of the graphs' input and output."""

_TRACED_IMAGES = 2  # a batch of one would be traced as a constant


class FromPixels(nn.Module):
    """A network preceded by normalisation, in the arithmetic of `engine.normalise`."""

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
    """The state dict, with BlurPool's constant kernels, which a strict load into a plain ResNet refuses."""
    blurred = {n: m for n, m in network.named_modules() if isinstance(m, BlurConv2d | BlurMaxPool2d)}
    kernels = {f"{name}.blur": module.blur for name, module in blurred.items()}
    return {name: tensor.contiguous() for name, tensor in {**network.state_dict(), **kernels}.items()}


def write_safetensors(network: nn.Module, description: ModelDescription, path: Path) -> None:
    """The weights under torchvision's names."""
    from safetensors.torch import save_file

    # one entry: several would be in random order, and the same model would give different bytes each time
    save_file(exported_tensors(network), path, {KEY: description.to_text()})


def write_program(network: nn.Module, description: ModelDescription, path: Path) -> None:
    """A torch.export program, which needs none of our code."""
    program = _traced(network, description)
    with _quiet():
        torch.export.save(program, path, extra_files={KEY: description.to_text()})


def write_onnx(network: nn.Module, description: ModelDescription, path: Path) -> None:
    """An ONNX graph with weights in the same file and the description in its metadata."""
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
    """The model's input and output, in words."""
    look, n = description.preprocessing, description.preprocessing.crop
    made = (
        f"RGB images, shorter side resized to {look.resize} ({look.interpolation}, antialiased), then the "
        f"central {n}x{n} crop"
    )
    if isinstance(network, FromPixels):
        taken = f"{INPUT}: uint8 [batch, 3, {n}, {n}], 0 to 255: {made}; normalised inside"
    else:
        taken = (
            f"{INPUT}: float32 [batch, 3, {n}, {n}]: {made}; scaled to 0..1, minus the mean "
            f"{list(look.mean)}, divided by {list(look.std)}"
        )
    return (
        f"{description.network}, {description.source}. {taken}. {OUTPUT}: float32 [batch, {len(description.classes)}]; "
        f"its softmax gives probabilities. The metadata {KEY} lists the classes in order."
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
    """Without the exporters' internal messages."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
