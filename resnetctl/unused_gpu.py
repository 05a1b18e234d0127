"""Why torch does not see the NVIDIA GPU that this machine has, and how to get it."""

from __future__ import annotations

import os
from pathlib import Path

from resnetctl.cgroups import read_file
from resnetctl.container import in_container

_PCI, _DEV, _DRIVER = Path("/sys/bus/pci/devices"), Path("/dev"), Path("/proc/driver/nvidia/version")
_NVIDIA, _DISPLAY = "0x10de", "0x03"


def unused_gpu(torch_cuda: str | None, *, pci: Path = _PCI, dev: Path = _DEV, driver: Path = _DRIVER) -> str | None:
    """One sentence for a machine with an NVIDIA GPU that torch does not see; None if there is no such GPU.

    `torch_cuda` is the CUDA version that torch is built for. The PCI bus shows a GPU even in a container or
    without a driver.
    """
    if not any(_is_gpu(device) for device in pci.glob("*")):
        return None
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if torch_cuda is None:
        cure = "this torch is built for the CPU; https://pytorch.org/get-started tells how to install one for CUDA"
    elif hidden is not None and not hidden.strip().isdecimal():
        cure = f"CUDA_VISIBLE_DEVICES={hidden} hides it"
    elif in_container() and not (dev / "nvidiactl").exists():
        cure = "start the container with --gpus all"
    elif not driver.exists():
        cure = "its driver is not loaded; nvidia-smi tells more"
    else:
        cure = f"its driver may be too old for CUDA {torch_cuda}; nvidia-smi tells which it supports"
    return f"this machine has an NVIDIA GPU that torch does not see: {cure}"


def _is_gpu(device: Path) -> bool:
    vendor, kind = read_file(device / "vendor"), read_file(device / "class")
    return vendor == _NVIDIA and (kind or "").startswith(_DISPLAY)
