"""`resnetctl info`: this machine, as far as it matters for training."""

from dataclasses import asdict
from typing import Any

from resnetctl import __version__
from resnetctl.cli import console, options

SMALL_SHM_BYTES = 1 << 30
"""Below this, workers can run out of shared memory; Docker gives 64 MiB by default."""


def info(
    data: options.DataRoot = options.DEFAULT_DATA,
    runs: options.RunsRoot = options.DEFAULT_RUNS,
    as_json: options.Json = False,
) -> None:
    """Show devices, memory, versions, decoders and disks, and the defaults that follow.

    \b
    Examples:
      resnetctl info
      resnetctl info --json
    """
    from resnetctl import hardware

    devices = hardware.accelerators()
    default = devices[0].device.partition(":")[0] if devices else "cpu"
    shm = hardware.shared_memory()
    facts: dict[str, Any] = {
        "resnetctl": __version__,
        "cpu": asdict(hardware.cpu()),
        "memory": asdict(hardware.memory()),
        "accelerators": [asdict(d) for d in devices],
        "versions": hardware.versions(),
        "decoders": hardware.decoders(),
        "shared_memory": asdict(shm) if shm else None,
        "data": str(data),
        "disks": {"data": asdict(hardware.space(data)), "runs": asdict(hardware.space(runs))},
        "device": default,
        "workers": hardware.default_workers(default, hardware.usable_cores()),
    }
    if as_json:
        console.print_document("info", facts)
        return
    for number, (title, rows) in enumerate(_sections(facts).items()):
        if number:
            console.out().print()
        console.table(("", ""), rows, title=title)
    if shm and shm.free_bytes < SMALL_SHM_BYTES:
        console.warn(
            f"/dev/shm has only {console.size(shm.free_bytes)} free, but workers pass batches through it: "
            "in Docker, run with --ipc=host or --shm-size=8g"
        )


def _sections(facts: dict[str, Any]) -> dict[str, list[tuple[str, str]]]:
    cpu, memory, versions = facts["cpu"], facts["memory"], facts["versions"]
    size = console.size
    limited = " (limit of the cgroup)" if memory["limit_bytes"] else ""
    return {
        "CPU": [
            ("model", cpu["model"]),
            ("architecture", cpu["architecture"]),
            ("cores", _cores(cpu)),
            ("instructions", " ".join(cpu["isa"]) or "unknown"),
        ],
        "Memory": [
            ("total", size(memory["total_bytes"]) + limited),
            ("available", size(memory["available_bytes"])),
            ("/dev/shm", _space(facts["shared_memory"]) if facts["shared_memory"] else "none"),
        ],
        "Accelerators": [(d["device"], _accelerator(d)) for d in facts["accelerators"]]
        or [("none", _why_none(versions))],
        "Versions": [("resnetctl", facts["resnetctl"]), *((_NAMES.get(k, k), v) for k, v in versions.items() if v)],
        "Decoders": [(_NAMES.get(k, k), _decoder(v)) for k, v in facts["decoders"].items()],
        "Disk": [("data root", _place(facts["disks"]["data"])), ("runs", _place(facts["disks"]["runs"]))],
        "Defaults": [("--device auto", facts["device"]), ("--workers", str(facts["workers"]))],
    }


_NAMES = {
    "cuda": "CUDA",
    "rocm": "ROCm",
    "cudnn": "cuDNN",
    "torchcodec": "TorchCodec",
    "nvjpeg": "nvJPEG",
    "pillow": "Pillow",
    "nvimgcodec": "nvImageCodec",
}


def _cores(cpu: dict[str, Any]) -> str:
    physical = f"{cpu['physical_cores']} physical, " if cpu["physical_cores"] else ""
    return f"{physical}{cpu['logical_cores']} logical, {cpu['usable_cores']} usable by this process"


def _decoder(found: list[str] | str | bool | None) -> str:
    if isinstance(found, list):
        return ", ".join(found) or "no"
    return found if isinstance(found, str) else "yes" if found else "no"


def _accelerator(device: dict[str, Any]) -> str:
    parts = [device["name"], console.size(device["memory_bytes"]), device["kind"]]
    if device["capability"]:
        parts.append(f"capability {device['capability']}")
    if device["driver"]:
        parts.append(f"driver {device['driver']}")
    return ", ".join([*parts, "bf16" if device["bf16"] else "no bf16"])


def _why_none(versions: dict[str, str | None]) -> str:
    from resnetctl.unused_gpu import unused_gpu

    if (text := unused_gpu(versions["cuda"])) is not None:
        return text
    if versions["cuda"]:
        return f"torch is built for CUDA {versions['cuda']} but finds no NVIDIA GPU with a suitable driver"
    if versions["rocm"]:
        return f"torch is built for ROCm {versions['rocm']} but finds no AMD GPU with a suitable driver"
    return "torch finds none; this build of torch is for the CPU"


def _space(space: dict[str, Any]) -> str:
    return f"{console.size(space['free_bytes'])} free of {console.size(space['total_bytes'])}"


def _place(space: dict[str, Any]) -> str:
    return f"{space['path']}: {_space(space)}" + ("" if space["exists"] else " (not there yet)")
