"""Everything but recipe and data that can change the bits of a result."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib.metadata import version

import torch

from resnetctl import __version__
from resnetctl.data.images.decoders import with_version
from resnetctl.distributed.group import Group
from resnetctl.engine.device import PRECISION_NAMES


def environment(
    device: torch.device, precision: torch.dtype, compiled: bool, micro_batch: int, group: Group, decoder: str
) -> dict[str, str | int]:
    """Versions, device, arithmetic and shape of a run, as its checkpoints record them."""
    return {
        "resnetctl": __version__,
        "torch": str(torch.__version__),
        "torchvision": version("torchvision"),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "instruction set": torch.backends.cpu.get_cpu_capability() if device.type == "cpu" else platform.machine(),
        "threads": torch.get_num_threads() if device.type == "cpu" else 0,
        "precision": PRECISION_NAMES[precision],
        "compiled": "yes" if compiled else "no",
        "micro-batch": micro_batch,
        "world size": group.size,
        "decoder": with_version(decoder),
    }


def changes(before: Mapping[str, str | int], now: Mapping[str, str | int]) -> list[str]:
    """Differences, as `name (before → now)`; values not recorded before are ignored."""
    return [f"{k} ({was} → {v})" for k, v in now.items() if (was := before.get(k)) not in (v, None)]
