"""How a recipe looks at a data set, and what else can change a result's bits."""

from __future__ import annotations

import platform
from importlib.metadata import version

import torch

from resnetctl import __version__
from resnetctl.data.batches.eval import EvalView
from resnetctl.data.batches.train import TrainView
from resnetctl.data.images.decoders import choose_decoder, with_version
from resnetctl.data.index import Index
from resnetctl.distributed.group import ALONE, Group
from resnetctl.engine.device import PRECISION_NAMES
from resnetctl.recipe import Recipe


def train_view(recipe: Recipe, index: Index, micro_batch: int, group: Group = ALONE) -> TrainView:
    """How the recipe trains on `index`, for the rank of `group`."""
    d, t = recipe.data, recipe.train
    return TrainView(
        index=index.path,
        fingerprint=index.info.fingerprint,
        seed=t.seed,
        epochs=t.epochs,
        global_batch=t.global_batch,
        micro_batch=micro_batch,
        size=d.train_size,
        size_start=d.train_size_start,
        size_ramp=d.train_size_ramp,
        crop_scale=d.crop_scale,
        crop_ratio=d.crop_ratio,
        hflip=d.hflip,
        interpolation=d.interpolation,
        decoder=choose_decoder(d.decoder),
        rank=group.rank,
        world_size=group.size,
    )


def eval_view(recipe: Recipe, index: Index, device: torch.device, group: Group = ALONE) -> EvalView:
    """How the recipe evaluates on `index`, for the rank of `group`."""
    d = recipe.data
    return EvalView(
        index=index.path,
        fingerprint=index.info.fingerprint,
        batch=256 if device.type == "cuda" else 64,
        resize=d.val_resize,
        size=d.val_size,
        interpolation=d.interpolation,
        rank=group.rank,
        world_size=group.size,
    )


def environment(
    device: torch.device, precision: torch.dtype, micro_batch: int, group: Group, decoder: str
) -> dict[str, str | int]:
    """What can change the bits of a result besides recipe and data."""
    return {
        "resnetctl": __version__,
        "torch": str(torch.__version__),
        "torchvision": version("torchvision"),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "instruction set": torch.backends.cpu.get_cpu_capability() if device.type == "cpu" else platform.machine(),
        "threads": torch.get_num_threads() if device.type == "cpu" else 0,
        "precision": PRECISION_NAMES[precision],
        "micro-batch": micro_batch,
        "world size": group.size,
        "decoder": with_version(decoder),
    }
