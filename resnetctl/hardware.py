"""Facts about this machine: processor, memory, accelerators, decoders, disks. Read-only.

Figures are what this process may use, not what the machine has: CPU affinity and the limits of cgroups (v1 and v2) are
taken into account.
"""

from __future__ import annotations

import functools
import math
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resnetctl.cgroups import cpu_quota, memory_limit, read_file

MAX_WORKERS_PER_DEVICE = 16

_BOOT = Path("/proc/sys/kernel/random/boot_id")
_X86_ISA = "sse4_2 avx f16c fma avx2 avx512f avx512bw avx512_vnni avx512_bf16 avx512_fp16 avx_vnni"
_AMX_ISA = "amx_tile amx_int8 amx_bf16 amx_fp16"
_ARM_ISA = "asimd fphp asimdhp asimddp i8mm bf16 sve sve2 sme"
_ISA = f"{_X86_ISA} {_AMX_ISA} {_ARM_ISA}".split()  # as Linux spells them
_NEON = {"asimd": "neon"}  # the better-known name


@dataclass(frozen=True, kw_only=True)
class Cpu:
    """The processor. `usable_cores`: within affinity and cgroup limits, at least 1."""

    model: str
    architecture: str
    logical_cores: int
    physical_cores: int | None
    usable_cores: int
    isa: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes of main memory; `total` and `available` are within the cgroup's limit, if any."""

    total_bytes: int
    available_bytes: int
    limit_bytes: int | None


@dataclass(frozen=True, kw_only=True)
class Accelerator:
    """One device by torch's name (`cuda:0`); ROCm's devices are called cuda in torch, so `kind` distinguishes them."""

    device: str
    kind: str
    name: str
    memory_bytes: int
    capability: str | None
    driver: str | None
    bf16: bool


@dataclass(frozen=True, kw_only=True)
class Space:
    """The file system of an existing or future path, in bytes; `exists` refers to the path itself."""

    path: str
    exists: bool
    total_bytes: int
    free_bytes: int


@dataclass(frozen=True, kw_only=True)
class Usable:
    """The logical cores that a process may run on, and the number of them that its cgroup's `quota` allows at once."""

    machine: str
    cores: frozenset[int]
    quota: int | None


def default_workers(device_type: str, cores: int) -> int:
    """Loader workers of a training process that has `cores` to itself.

    With an accelerator the cores have nothing else to do: one worker per core, up to 16. On the CPU they compute the
    model, which costs many times more than decoding, so one worker for four cores keeps up.
    """
    if device_type == "cpu":
        cores //= 4
    return max(1, min(MAX_WORKERS_PER_DEVICE, cores))


def usable_cores() -> int:
    """Logical cores that this process may use: its affinity, limited by the cgroup's quota rounded up."""
    here = usable()
    return share_of(here, [here])


def usable() -> Usable:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        cores = frozenset(os.sched_getaffinity(0))
    else:
        cores = frozenset(range(os.cpu_count() or 1))
    quota = cpu_quota()
    return Usable(
        machine=read_file(_BOOT) or socket.gethostname(), cores=cores, quota=None if quota is None else math.ceil(quota)
    )


def share_of(own: Usable, ranks: Sequence[Usable]) -> int:
    """Cores for one of `ranks`, `own`, at least 1: a core that several ranks may run on is divided among them.

    Under `srun` each rank has its own cores, under torchrun all may run anywhere, and ranks bound to their GPU's NUMA
    node share it with the others there. A quota is the container's, and divided among the ranks on its machine.
    """
    here = [rank for rank in ranks if rank.machine == own.machine]
    share = sum(1 / sum(core in rank.cores for rank in here) for core in own.cores)
    if own.quota is not None:
        share = min(share, own.quota / len(here))
    return max(1, int(share + 1e-6))


def cpu() -> Cpu:
    """The processor of this machine."""
    facts = _cpuinfo()
    model = facts.get("model name") or facts.get("Model") or _sysctl("machdep.cpu.brand_string") or platform.processor()
    flags = (facts.get("flags") or facts.get("Features") or "").split()
    isa = [_NEON.get(flag, flag) for flag in _ISA if flag in flags]
    if not isa and platform.machine() == "arm64":
        isa = ["neon"]
    return Cpu(
        model=model or "unknown",
        architecture=platform.machine(),
        logical_cores=os.cpu_count() or 1,
        physical_cores=_physical_cores(),
        usable_cores=usable_cores(),
        isa=tuple(isa),
    )


def _cpuinfo() -> dict[str, str]:
    """The first processor of /proc/cpuinfo; some Arm machines give the model in a separate last block."""
    facts: dict[str, str] = {}
    for line in (read_file(Path("/proc/cpuinfo")) or "").splitlines():
        key, colon, value = line.partition(":")
        if colon:
            facts.setdefault(key.strip(), value.strip())
    return facts


def _physical_cores() -> int | None:
    found = set()
    for number in range(os.cpu_count() or 1):
        topology = Path(f"/sys/devices/system/cpu/cpu{number}/topology")
        pair = read_file(topology / "physical_package_id"), read_file(topology / "core_id")
        if None not in pair:
            found.add(pair)
    if found:
        return len(found)
    count = _sysctl("hw.physicalcpu")
    return int(count) if count and count.isdecimal() else None


def _output(*command: str) -> str | None:
    """The output of a short command; None if it is missing or fails."""
    if shutil.which(command[0]) is None:
        return None
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def _sysctl(name: str) -> str | None:
    return _output("sysctl", "-n", name) if sys.platform == "darwin" else None


def memory() -> Memory:
    """Main memory."""
    page = os.sysconf("SC_PAGE_SIZE")
    total = os.sysconf("SC_PHYS_PAGES") * page
    found = re.search(r"^MemAvailable:\s+(\d+) kB$", read_file(Path("/proc/meminfo")) or "", re.MULTILINE)
    available = int(found[1]) * 1024 if found else total
    limit, used = memory_limit()
    if limit is not None and limit < total:
        return Memory(total_bytes=limit, available_bytes=min(available, max(0, limit - used)), limit_bytes=limit)
    return Memory(total_bytes=total, available_bytes=available, limit_bytes=None)


def accelerators() -> list[Accelerator]:
    """torch's devices besides the CPU, in torch's order."""
    import torch

    found = []
    if torch.cuda.is_available():
        rocm = torch.version.hip is not None
        driver = read_file(Path("/sys/module/amdgpu/version")) if rocm else _nvidia_driver()
        for i in range(torch.cuda.device_count()):
            device = torch.cuda.get_device_properties(i)
            found.append(
                Accelerator(
                    device=f"cuda:{i}",
                    kind="ROCm" if rocm else "CUDA",
                    name=device.name,
                    memory_bytes=device.total_memory,
                    capability=getattr(device, "gcnArchName", None) if rocm else f"{device.major}.{device.minor}",
                    driver=driver,
                    bf16=rocm or device.major >= 8,  # torch only emulates it before Ampere
                )
            )
    if hasattr(torch, "xpu") and torch.xpu.is_available():
        for i in range(torch.xpu.device_count()):
            xpu: Any = torch.xpu.get_device_properties(i)
            found.append(
                Accelerator(
                    device=f"xpu:{i}",
                    kind="XPU",
                    name=xpu.name,
                    memory_bytes=xpu.total_memory,
                    capability=None,
                    driver=getattr(xpu, "driver_version", None),
                    bf16=True,
                )
            )
    if torch.backends.mps.is_available():
        found.append(
            Accelerator(
                device="mps",
                kind="MPS",
                name=_sysctl("machdep.cpu.brand_string") or "Apple GPU",
                memory_bytes=torch.mps.recommended_max_memory(),
                capability=None,
                driver=f"macOS {platform.mac_ver()[0]}",
                bf16=torch.backends.mps.is_macos_or_newer(14, 0),
            )
        )
    return found


def _nvidia_driver() -> str | None:
    found = re.search(
        r"Kernel Module\D*?\s(\d+\.\d+(?:\.\d+)?)\s", read_file(Path("/proc/driver/nvidia/version")) or ""
    )
    if found:
        return found[1]
    answer = _output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
    return answer.splitlines()[0] if answer else None


def versions() -> dict[str, str | None]:
    """Versions of the libraries used, None if missing; CUDA, ROCm and cuDNN are those bundled with torch."""
    from importlib.metadata import PackageNotFoundError, version

    import torch

    def installed(package: str) -> str | None:
        try:
            return version(package)
        except PackageNotFoundError:
            return None

    cudnn = torch.backends.cudnn.version() if torch.version.hip is None else None
    return {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "torchvision": installed("torchvision"),
        "torchcodec": installed("torchcodec"),
        "safetensors": installed("safetensors"),
        "cuda": torch.version.cuda,
        "rocm": torch.version.hip,
        "cudnn": _cudnn_version(cudnn) if cudnn else None,
    }


def _cudnn_version(number: int) -> str:
    """`92600` is 9.26.0, `8902` is 8.9.2: the major number moved in cuDNN 9."""
    major, rest = divmod(number, 10_000 if number >= 90_000 else 1_000)
    return f"{major}.{rest // 100}.{rest % 100}"


def decoders() -> dict[str, Any]:
    """The image decoders: TorchCodec's formats, each tried on an image, and versions of the others."""
    return {
        "torchcodec": [kind for kind in ("jpeg", "png", "webp") if _decodes(kind)],
        "nvjpeg": _decodes("jpeg", device="cuda"),
        "pillow": _pillow(),
        "nvimgcodec": _nvimgcodec(),
    }


@functools.cache
def _tiny_image(kind: str) -> bytes | None:
    import io

    from PIL import Image

    file = io.BytesIO()
    try:
        Image.new("RGB", (16, 16), (40, 120, 200)).save(file, kind)
    except (OSError, KeyError):  # a Pillow without that format
        return None
    return file.getvalue()


def _decodes(kind: str, device: str = "cpu") -> bool:
    import torch

    encoded = _tiny_image(kind)
    if encoded is None or (device == "cuda" and not torch.cuda.is_available()):
        return False
    data = torch.frombuffer(bytearray(encoded), dtype=torch.uint8)
    try:
        from torchcodec import decoders

        options = {"device": device} if device != "cpu" else {}
        image = getattr(decoders, f"decode_{kind}")(data, **options)
    except (ImportError, RuntimeError, AttributeError, OSError):
        return False
    return tuple(image.shape) == (3, 16, 16)


def _pillow() -> str:
    import PIL
    from PIL import features

    turbo = features.version_feature("libjpeg_turbo") if features.check_feature("libjpeg_turbo") else None
    return f"{PIL.__version__}, libjpeg-turbo {turbo}" if turbo else PIL.__version__


def _nvimgcodec() -> str | None:
    try:
        from nvidia import nvimgcodec
    except ImportError:
        return None
    return str(nvimgcodec.__version__)


def space(path: Path) -> Space:
    """Space on the file system of `path`, or of its nearest existing parent."""
    absolute = path.absolute()
    for folder in (absolute, *absolute.parents):
        try:
            usage = shutil.disk_usage(folder)
        except (FileNotFoundError, NotADirectoryError):
            continue
        return Space(path=str(absolute), exists=folder == absolute, total_bytes=usage.total, free_bytes=usage.free)
    raise AssertionError("the root folder exists")


def shared_memory() -> Space | None:
    """/dev/shm, through which workers pass batches; None if the system has none."""
    path = Path("/dev/shm")
    return space(path) if path.is_dir() else None
