"""Compare with others' public code, in one run, interleaved: `python -m tests.benchmarks [PART …]`.

The parts are loader, step, start, save; augment and extras besides; and, where there is a GPU, gpu. Writes results.json
and results.md. FFCV is compared where `--ffcv-python` names a Python that has it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tests.benchmarks import datasets

HERE = Path(__file__).parent
PACKAGES = ("torch", "torchvision", "torchcodec", "pillow", "numpy", "timm", "nvidia-nvimgcodec-cu13")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parts = ["loader", "step", "start", "save", "augment", "extras", "gpu"]
    parser.add_argument("what", nargs="*", metavar="PART", choices=[*parts, []], default=[], help=", ".join(parts))
    parser.add_argument("--images", type=Path, help="a folder with train/<class>/ of your own, instead of photographs")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "resnetctl-benchmarks")
    parser.add_argument("--ffcv-python", type=Path, help="python of an environment with FFCV")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each measurement")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cuda", help="of the part gpu")
    parser.add_argument("--batch", type=int, default=256, help="images of each GPU, of the part gpu")
    parser.add_argument("--minutes", type=float, default=18.0, help="in which the part gpu ends")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {"machine": machine()}
    for what in args.what or ["loader", "step", "start", "save"]:
        results[what] = PARTS[what](args)
    (args.work / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    (args.work / "results.md").write_text(markdown(results))
    print(markdown(results))
    print(f"written: {args.work / 'results.json'}, results.md", file=sys.stderr)


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    from resnetctl import hardware

    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    cpu = hardware.cpu()
    return {
        "cpu": cpu.model,
        "cores": cpu.usable_cores,
        "instructions": list(cpu.isa),
        "gpu": ", ".join(a.name for a in hardware.accelerators()) or "no GPU",
        "load_at_start": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "versions": versions,
    }


def _measured(command: list[Any]) -> dict[str, float] | None:
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"left out: {' '.join(map(str, command))}\n{done.stderr[-1500:]}", file=sys.stderr)
        return None
    return json.loads(done.stdout.splitlines()[-1])


def _interleaved(commands: dict[str, list[Any]], repeats: int, seconds: float = float("inf")) -> dict[str, Any]:
    """Every command `repeats` times, one after the other in rounds; median and spread of each figure.

    After the first round, none begins that would not be over `seconds` after the first one's beginning.
    """
    found: dict[str, list[dict[str, float]]] = {name: [] for name in commands}
    began, round_seconds = time.monotonic(), 0.0
    for round_ in range(repeats):
        start = time.monotonic()
        if round_ and start - began + round_seconds > seconds:
            break
        for name, command in commands.items():
            if round_ and not found[name]:
                continue  # it failed the first time
            figures = _measured(command)
            if figures:
                found[name].append(figures)
                print(f"{round_ + 1}/{repeats} {name}: {figures}", file=sys.stderr)
        round_seconds = time.monotonic() - start
    return {
        name: {
            key: {
                "median": statistics.median(run[key] for run in runs),
                "min": min(run[key] for run in runs),
                "max": max(run[key] for run in runs),
            }
            for key in runs[0]
        }
        for name, runs in found.items()
        if runs
    }


def loaders(args: argparse.Namespace) -> dict[str, Any]:
    """img/s of every loader on the same pictures."""
    tree = datasets.class_folders(args.work, args.images)
    files = datasets.index_folders(tree, args.work)
    tar, shards = datasets.index_tar(tree, args.work), datasets.index_shards(tree, args.work)
    sources = {
        "one-page script": ("one-page", tree),
        "torchvision reference": ("torchvision-reference", tree),
        "timm create_loader": ("timm", tree),
        "torchvision tensors": ("torchvision-tensors", tree),
        "resnetctl, files": ("resnetctl", files),
        "resnetctl, tar in place": ("resnetctl", tar),
        "resnetctl, shards": ("resnetctl", shards),
        "resnetctl, tar, nvimgcodec": ("resnetctl-nvimgcodec", tar),
    }
    commands: dict[str, list[Any]] = {
        name: [sys.executable, "-m", "tests.benchmarks.loaders", peer, path, args.seconds]
        for name, (peer, path) in sources.items()
    }
    if args.ffcv_python:
        beton = datasets.ffcv_file(tree, args.work, args.ffcv_python)
        commands["FFCV"] = [args.ffcv_python, HERE / "ffcv_loader.py", "read", beton, args.seconds]
    return _interleaved(commands, args.repeats)


def augment(args: argparse.Namespace) -> dict[str, Any]:
    """img/s of the loaders with TrivialAugment and RandAugment."""
    tree = datasets.class_folders(args.work, args.images)
    peers = {"torchvision reference": tree, "torchvision tensors": tree, "timm": tree}
    peers["resnetctl"] = datasets.index_folders(tree, args.work)
    commands: dict[str, list[Any]] = {
        f"{name}, {kind}": [
            *(sys.executable, "-m", "tests.benchmarks.loaders", name.replace(" ", "-"), path, args.seconds, kind)
        ]
        for kind in ("trivial", "rand")
        for name, path in peers.items()
        if (name, kind) != ("timm", "trivial")
    }
    return _interleaved(commands, args.repeats)


def extras(args: argparse.Namespace) -> dict[str, Any]:
    """img/s of our training step with mixup and with EMA, in one process, a step of each in turn."""
    return _interleaved({"step": [sys.executable, "-m", "tests.benchmarks.extras", 4 * args.seconds]}, 1)["step"]


def step(args: argparse.Namespace) -> dict[str, Any]:
    """img/s of the training step on the CPU."""
    return _interleaved(
        {name: _step(name, "--seconds", args.seconds) for name in ("one-page", "resnetctl", "matmul")}, args.repeats
    )


def gpu(args: argparse.Namespace) -> dict[str, Any]:
    """img/s of the training step on a GPU, and on all of them, and of loader and step together on JPEGs."""
    import torch

    if args.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("torch finds no GPU here; --device cpu tries the same code on the processor")
    began = time.monotonic()
    options = ["--device", args.device, "--batch", args.batch, "--seconds", args.seconds]
    loops = ("one-page", "torchvision-reference", "timm", "resnetctl")
    blurred = ("resnetctl-blurpool", "resnetctl-blurpool-as-convolution")
    commands = {name: _step(name, *options) for name in (*loops, *blurred, "matmul", "bandwidth")}
    tree = datasets.class_folders(args.work, args.images)
    for name in loops[1:]:
        data = datasets.index_folders(tree, args.work).parent if name == "resnetctl" else tree
        commands[f"{name}, JPEGs"] = _step(name, *options, "--data", data)
    ranks = torch.cuda.device_count() if args.device == "cuda" else 2
    if ranks > 1:
        torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", ranks]
        for name in loops[1:]:
            command = [sys.executable, *torchrun, *_step(name, *options)[1:]]
            commands[f"{name}, {ranks} ranks"] = command
    return _interleaved(commands, args.repeats, 60 * args.minutes - (time.monotonic() - began))


def _step(name: str, *options: Any) -> list[Any]:
    return [sys.executable, "-m", "tests.benchmarks.steps", name, *options]


def start(args: argparse.Namespace) -> dict[str, Any]:
    """Seconds from process start to the first step on an index of 1.28 million images."""
    return _interleaved({"start": [sys.executable, "-m", "tests.benchmarks.start", args.work]}, min(3, args.repeats))


def save(args: argparse.Namespace) -> dict[str, Any]:
    """What a save of ResNet-50 costs the training on the CPU."""
    return _interleaved({"save": [sys.executable, "-m", "tests.benchmarks.saving", "--device", "cpu"]}, 1)


PARTS = {
    "loader": loaders,
    "step": step,
    "start": start,
    "save": save,
    "augment": augment,
    "extras": extras,
    "gpu": gpu,
}


def markdown(results: dict[str, Any]) -> str:
    """The results as tables."""
    m = results["machine"]
    lines = [
        f"{m['cpu']}, {m['cores']} cores; python {m['python']}, "
        + ", ".join(f"{k} {v}" for k, v in m["versions"].items()),
        "",
    ]
    if "loader" in results:
        lines += _table(results["loader"], "torchvision reference", "loader, batch 128, 2 workers, 2 cores")
    if "augment" in results:
        lines += _table(
            results["augment"], "torchvision reference, trivial", "loader with augmentation, 2 workers, 2 cores"
        )
    if "extras" in results:
        lines += ["| training step, ResNet-50, 128 px, batch 32 | img/s |", "|---|---|"]
        lines += [f"| {k} | {v['median']:.2f} |" for k, v in results["extras"].items()]
    if "step" in results:
        lines += _table(results["step"], "one-page", "training step, ResNet-50, 224 px, batch 32")
    if "gpu" in results:
        lines += _table(results["gpu"], "torchvision-reference", f"{m['gpu']}, training step, ResNet-50, 224 px")
    if "start" in results:
        lines += ["| start | seconds |", "|---|---|"]
        lines += [f"| {k} | {v['median']:.2f} |" for k, v in results["start"].get("start", {}).items()]
    if "save" in results:
        lines += ["", "| a save beside training, ResNet-50, 224 px, batch 32 | |", "|---|---|"]
        lines += [f"| {k.replace('_', ' ')} | {v['median']:.3g} |" for k, v in results["save"].get("save", {}).items()]
    return "\n".join(lines) + "\n"


def _table(rows: dict[str, Any], base: str, title: str) -> list[str]:
    lines = [f"| {title} | img/s | spread | × {base} | CPU ms an image |", "|---|---|---|---|---|"]
    for name, row in rows.items():
        r = row["img_s"]
        ratio = f"{r['median'] / rows[base]['img_s']['median']:.2f}" if base in rows else ""
        cpu = f"{row['cpu_ms_per_image']['median']:.2f}" if "cpu_ms_per_image" in row else ""
        lines.append(f"| {name} | {r['median']:.0f} | {r['min']:.0f}–{r['max']:.0f} | {ratio} | {cpu} |")
    return [*lines, ""]


if __name__ == "__main__":
    main()
