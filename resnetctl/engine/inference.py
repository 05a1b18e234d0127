"""Inference: uint8 images in, outputs out; with a checkpoint's model, or one in training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from resnetctl.engine.device import choose_precision
from resnetctl.engine.normalise import Normalise
from resnetctl.errors import CheckpointError
from resnetctl.model.resnet import build_model
from resnetctl.recipe import Recipe
from resnetctl.runs.checkpoint import Checkpoint


@dataclass(frozen=True, kw_only=True)
class Compiled:
    """A compiled network, which takes batches of a single size, since another would be compiled again."""

    network: nn.Module
    batch: int


@dataclass(frozen=True, kw_only=True)
class Model:
    """A network on its device, with everything that its outputs depend on besides the images."""

    network: nn.Module
    normalise: Normalise
    device: torch.device
    precision: torch.dtype
    flip_average: bool = False
    """Average the outputs for an image and its mirror image."""
    outputs: torch.Tensor | None = None
    """`[K] int64`, on the device: the only outputs that compete, in the order of the labels; None: all."""
    compiled: Compiled | None = None
    """Compiled `network`, called in its place."""

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """`[B, C] float32` (or `[B, K]`) outputs, on the device, of `[B, 3, H, W] uint8` images."""
        count, network = len(images), self.network
        images = images.to(self.device, non_blocking=True)
        if self.compiled is not None:
            network, images = self.compiled.network, padded(images, self.compiled.batch)
        pixels = self.normalise(images)
        with torch.autocast(self.device.type, self.precision, enabled=self.precision != torch.float32):
            logits: torch.Tensor = network(pixels)
            if self.flip_average:
                logits = (logits.float() + network(pixels.flip(3)).float()) / 2
        logits = logits[:count].float()
        return logits if self.outputs is None else logits[:, self.outputs]


def padded(images: torch.Tensor, batch: int) -> torch.Tensor:
    """`[B, 3, H, W] uint8` as `[batch, 3, H, W]`, channels last: an incomplete batch is filled with black images."""
    lacking = batch - len(images)
    if lacking <= 0:
        return images
    more = torch.cat((images, images.new_zeros((lacking, *images.shape[1:]))))
    return more.contiguous(memory_format=torch.channels_last)


def in_use(
    network: nn.Module,
    recipe: Recipe,
    device: torch.device,
    precision: torch.dtype,
    compiled: Compiled | None = None,
) -> Model:
    """`network`, already on `device`, as `recipe` evaluates it."""
    return Model(
        network=network,
        normalise=Normalise(recipe.data.mean, recipe.data.std, device),
        device=device,
        precision=precision,
        flip_average=recipe.data.val_flip_average,
        compiled=compiled,
    )


def load_model(
    checkpoint: Checkpoint, device: torch.device, notice: Callable[[str], None], *, raw: bool = False
) -> Model:
    """The model of a checkpoint on `device`, in evaluation mode, as its recipe evaluates it.

    That is the moving average of the weights if there is one, unless `raw`.

    Raises CheckpointError if the tensors are not those of the recipe's network. `notice` is called if the arithmetic
    differs from training's.
    """
    metadata = checkpoint.metadata
    network = build_model(metadata.recipe.model, len(metadata.classes))
    try:
        average = {} if raw else checkpoint.part("ema")
        network.load_state_dict(average or checkpoint.part("model"), strict=True)
    except RuntimeError as error:
        raise CheckpointError(
            f"the checkpoint's tensors do not fit its own recipe: {str(error).splitlines()[0]}"
        ) from error
    layout = torch.channels_last if metadata.recipe.train.channels_last else torch.contiguous_format
    network = network.to(device).to(memory_format=layout).eval()
    return in_use(network, metadata.recipe, device, _precision(metadata.recipe.train.precision, device, notice))


def _precision(trained: str, device: torch.device, notice: Callable[[str], None]) -> torch.dtype:
    """The recipe's precision, if this device supports it."""
    if trained == "fp16" and device.type != "cuda":
        notice("the run used fp16, which needs a CUDA device: evaluating in fp32")
        return torch.float32
    return choose_precision(trained, device)
