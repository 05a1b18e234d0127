"""The choice of device and arithmetic."""

from __future__ import annotations

import ctypes
import os
import shlex
import shutil
import sys
import sysconfig
from pathlib import Path

import torch

from resnetctl.engine.device_name import split_name
from resnetctl.errors import ResnetctlError, UsageError, printable

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # malloc.h
_TRITON_MAJOR = 7
_COMPILE_THREADS = "TORCHINDUCTOR_COMPILE_THREADS"


def available() -> list[str]:
    """The kinds of device that work here, fastest first."""
    kinds = []
    if torch.cuda.is_available():
        kinds.append("cuda")
    if hasattr(torch, "xpu") and torch.xpu.is_available():
        kinds.append("xpu")
    if torch.backends.mps.is_available():
        kinds.append("mps")
    return [*kinds, "cpu"]


def choose_device(name: str) -> torch.device:
    """`auto` or a torch device such as `cuda:1`, which becomes torch's current device of its kind.

    Raises UsageError if it does not exist here.
    """
    here = available()
    if name == "auto":
        return torch.device(here[0])
    kind, number = split_name(name)
    if kind not in here:
        raise UsageError(
            f"torch finds no {kind} device on this machine",
            hint=f"--device auto uses {here[0]} here; resnetctl info lists all devices",
        )
    count = torch.get_device_module(kind).device_count() if kind in ("cuda", "xpu") else 1
    if number is not None and number >= count:
        raise UsageError(f"there is no {name}: this machine has {count}", hint="resnetctl info lists them")
    device = torch.device(kind) if number is None else torch.device(kind, number)
    if number is not None and kind != "cpu":
        torch.get_device_module(kind).set_device(device)  # else pinning, for example, allocates on the first device
    return device


def rank_device(name: str, local_rank: int, local_size: int) -> torch.device:
    """As `choose_device`, for one of several ranks on this machine: each has its own CUDA device, or the CPU.

    Raises UsageError if there are more ranks than devices.
    """
    device = choose_device(name)
    kind = str(device)
    if kind == "cpu" or (local_size == 1 and local_rank == 0):
        return device
    if kind != "cuda":
        raise UsageError(f"several ranks cannot share {name}", hint="--device auto, cuda or cpu")
    count = torch.cuda.device_count()
    if count == 1 and "SLURM_PROCID" in os.environ:
        local_rank = 0  # --gpus-per-task shows each task only its own; if they do share one, NCCL refuses
    if local_rank >= count:
        raise UsageError(f"there are {local_size} ranks on this machine, and {count} CUDA devices", hint="--gpus all")
    device = torch.device("cuda", local_rank)
    torch.cuda.set_device(device)
    return device


def local_ranks(gpus: str | None, cpu_procs: int | None, device: str) -> int:
    """The number of ranks on this machine by `--gpus` or `--cpu-procs`; UsageError if that is impossible."""
    if gpus is None:
        if cpu_procs is not None and device not in ("auto", "cpu"):
            raise UsageError(
                f"--cpu-procs cannot be combined with --device {printable(device)}",
                hint="--gpus N for several GPUs, or leave out --device",
            )
        return cpu_procs or 1
    if cpu_procs is not None or device not in ("auto", "cuda"):
        raise UsageError("--gpus cannot be combined with --cpu-procs or another --device")
    here = torch.cuda.device_count()
    if gpus != "all" and not (gpus.isdecimal() and int(gpus) > 0):
        raise UsageError(f"--gpus {printable(gpus)}: a number from 1, or all", hint=f"there are {here} here")
    wanted = here if gpus == "all" else int(gpus)
    if not 0 < wanted <= here:
        raise UsageError(
            f"--gpus {gpus}, but torch finds {here} on this machine", hint="resnetctl info lists all devices"
        )
    return wanted


def choose_precision(wanted: str, device: torch.device) -> torch.dtype:
    """The autocast type: `auto` is bf16 if the hardware supports it, else fp16 on CUDA, else fp32.

    Raises UsageError for fp16 without CUDA: small gradients need the loss scaler, which only CUDA has.
    """
    if wanted == "auto":
        if _fast_bf16(device):
            return torch.bfloat16
        return torch.float16 if device.type == "cuda" else torch.float32
    if wanted == "fp16" and device.type != "cuda":
        raise UsageError(
            f"fp16 needs a CUDA device, and this run is on {device.type}", hint="--set train.precision=bf16"
        )
    return {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[wanted]


def _fast_bf16(device: torch.device) -> bool:
    match device.type:
        case "cuda":
            return torch.cuda.is_bf16_supported(including_emulation=False)
        case "xpu":
            return True
        case "cpu":
            if torch.backends.cpu.get_cpu_capability() in ("DEFAULT", "AVX2"):  # ATEN_CPU_CAPABILITY may lower it
                return False
            return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return False


PRECISION_NAMES = {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "fp32"}


def keep_freed_memory(device: torch.device) -> None:
    """On a CPU, let the C library keep the memory of one step for the next one.

    glibc returns large blocks to the system at once, so that each step had 375,000 page faults (ResNet-50, 32 images of
    224 px); without them a step takes a fifth less processor time. Other C libraries have no such setting.
    """
    if device.type != "cpu" or not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, -1)


def set_deterministic(wanted: bool) -> None:
    """Let torch use only bitwise reproducible algorithms, or whichever are fastest."""
    torch.backends.cudnn.benchmark = not wanted  # times cuDNN's algorithms at each new shape and keeps the fastest
    torch.backends.cudnn.deterministic = wanted
    if wanted:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read once, at the first use of cuBLAS
    if wanted != torch.are_deterministic_algorithms_enabled():
        torch.use_deterministic_algorithms(wanted)  # slow: loads the compiler's settings


def compile_or_why_not(wanted: str, device: torch.device, *, sync_bn: bool = False) -> str | None:
    """None if the model is to be compiled, else the reason why not ("" for one not worth reporting).

    `sync_bn`: whether batch norm is synchronised over several ranks. Raises UsageError if `wanted` is "on" but
    impossible.
    """
    if wanted == "off" or (wanted == "auto" and device.type != "cuda"):
        return ""
    if sync_bn:  # its collectives break the compiled graph at each layer
        reason, cure = "train.sync_bn is on, which torch.compile cannot compile", "--set train.sync_bn=false"
    else:
        lacking = _lacking_for_compile(device)
        if lacking is None:
            return None
        reason, cure = lacking
    if wanted == "on":
        raise UsageError(f"train.compile is on, but {reason}", hint=f"{cure}, or --set train.compile=off")
    return f"torch.compile is off: {reason}; {cure} for a faster step"


def _lacking_for_compile(device: torch.device) -> tuple[str, str] | None:
    """What torch.compile lacks for `device` on this machine, and the cure.

    On CUDA, Triton compiles C modules for Python; on the CPU, inductor compiles C++ ones. Compilers are searched for as
    they do it.
    """
    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        if torch.version.hip is None and major < _TRITON_MAJOR:
            return f"Triton needs compute capability {_TRITON_MAJOR}.0, and this GPU has {major}.{minor}", "a newer GPU"
        if not _finds(os.environ.get("CC"), "gcc", "clang"):
            return "there is no C compiler", "install gcc (Debian: apt-get install gcc libc6-dev)"
    elif not _finds(os.environ.get("CXX"), "clang++" if sys.platform == "darwin" else "g++"):
        return "there is no C++ compiler", "install g++ (Debian: apt-get install g++)"
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        return "Python.h is missing", "install Python's headers (Debian: apt-get install python3-dev)"
    return None


def _finds(chosen: str | None, *usual: str) -> bool:
    """Whether the compiler named by the environment, else one of the usual ones, exists."""
    return any(shutil.which(name) for name in (shlex.split(chosen)[:1] if chosen else usual))


def limit_compile_processes(count: int) -> None:
    """Let torch.compile use `count` processes; by default each rank takes one for every core it may run on, up to 32.

    The user's TORCHINDUCTOR_COMPILE_THREADS takes precedence.
    """
    if _COMPILE_THREADS in os.environ:
        return
    os.environ[_COMPILE_THREADS] = str(count)
    config = sys.modules.get("torch._inductor.config")
    if config is not None:  # it read the variable when it was loaded
        config.compile_threads = count  # type: ignore[attr-defined]


def peak_memory(device: torch.device) -> int | None:
    """Peak bytes of tensors on a GPU so far; None on other devices."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None


def synchronise(device: torch.device) -> None:
    """Wait until the device has finished its work."""
    if device.type in ("cuda", "xpu"):
        torch.get_device_module(device.type).synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def out_of_memory(
    error: BaseException, micro_batch: int, share: int, size: int, *, begun: bool = True
) -> ResnetctlError | None:
    """The message if `error` means out of memory, with a micro-batch worth trying; None for other errors.

    `share` is the rank's part of the global batch, which every micro-batch must divide; `begun`: whether there is a run
    to continue.
    """
    # the CPU's allocator has no exception of its own
    if not isinstance(error, torch.OutOfMemoryError | MemoryError) and "can't allocate memory" not in str(error):
        return None
    what = f"the device has too little memory for {micro_batch} images of {size} pixels at a time"
    if micro_batch == 1:
        return ResnetctlError(what, hint="a smaller model (--arch) or data.train_size needs less")
    fits = next(n for n in range(micro_batch // 2, 0, -1) if share % n == 0)
    hint = f"--set train.micro_batch={fits} processes fewer at once; a step's batch stays the same"
    if begun:
        hint += f"; to continue: resnetctl train --resume --allow-changes --set train.micro_batch={fits}"
    return ResnetctlError(what, hint=hint)
