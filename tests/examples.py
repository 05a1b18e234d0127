"""The command lines that the help and the README show, and a folder in which they can be run as they stand."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.fixtures.imagenet_archives import jpeg

SOURCE = Path(__file__).parents[1]
README = SOURCE / "README.md"

OUT_OF_REACH = {
    r"--gpus|torchrun": "needs GPUs, or several machines",
    r"/disk/|--archives|--suite|--against imagenet|--recipe (fast|nvidia-90)\b": "needs ImageNet",
    r"imagenette|imagewoof|hf:|--index-url": "needs the network",
    r"^docker|^alias|^rn ": "needs Docker: tests/container does the same",
    r"^python -m": "tests and benchmarks themselves",
}
SLOW = re.compile(r"resnetctl (train|plan|bench|export|report)\b")
"""What takes minutes, or has tests of its own that do the same."""
_PUBLISHED = re.compile(r"\bimagenet1k-v[12]\b")


def help_examples() -> Iterator[tuple[str, list[str]]]:
    """Each command, such as `runs list`, with its examples."""
    from resnetctl.cli.app import build

    yield from _examples(build(), "")


def _examples(command: Any, name: str) -> Iterator[tuple[str, list[str]]]:
    subs = getattr(command, "commands", None)
    if subs is None:
        _, _, after = (command.help or "").partition("Examples:\n")
        yield name, [line.strip() for line in after.splitlines() if line.strip()]
        return
    for word, sub in subs.items():
        yield from _examples(sub, f"{name} {word}".strip())


def readme_blocks() -> list[list[str]]:
    """The command lines of each `console` block of the README, each on one line and without its comment."""
    blocks = re.findall(r"^```console\n(.*?)^```", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    lines = [block.replace("\\\n", " ").splitlines() for block in blocks]
    return [[found for raw in block if (found := re.sub(r"\s+#.*", "", raw).strip())] for block in lines]


def why_not(line: str) -> str | None:
    """Why `line` cannot be run without a GPU, ImageNet, Docker and network; None where it can."""
    return next((reason for pattern, reason in OUT_OF_REACH.items() if re.search(pattern, line)), None)


class Place:
    """A folder with what the examples speak of: pictures, and once `make` is called a data set and two runs."""

    def __init__(self, folder: Path, program: Path | None = None) -> None:
        """`program` is the `resnetctl` to run; None: the one that is imported here."""
        self.folder = folder
        bin = folder.parent / f"{folder.name}-bin"
        bin.mkdir()
        if program is None:
            shim = bin / "resnetctl"
            shim.write_text(f"#!/bin/sh\nexec '{sys.executable}' -m resnetctl \"$@\"\n")
            shim.chmod(0o755)
        else:
            (bin / "resnetctl").symlink_to(program)
        folder.mkdir()
        ours = ("RESNETCTL_", "_RESNETCTL_", "PYTHON")
        self._env = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
        self._env |= {"PATH": f"{bin}:{os.environ['PATH']}", "HOME": str(folder / "home")}
        (folder / "cat.jpg").write_bytes(jpeg(0, 90, 120))
        (folder / "notes.txt").write_text("not a picture\n")
        (folder / "holiday").mkdir()
        (folder / "holiday" / "sea.png").write_bytes(jpeg(7, 60, 80, format="PNG"))
        for name in ".local/share/bash-completion/completions", ".zfunc", ".config/fish/completions":
            (folder / "home" / name).mkdir(parents=True)
        for name, count in {"pets/cats": 20, "pets/dogs": 20, "holiday": 3}.items():
            (folder / name).mkdir(parents=True, exist_ok=True)
            for i in range(count):
                (folder / name / f"{i}.jpg").write_bytes(jpeg(100 * len(name) + i, 60, 80))

    def make(self) -> None:
        """The sample as the data root, and runs called first, second and pets."""
        self("resnetctl prepare --source sample")
        self("resnetctl train --name first --arch resnet18 --max-steps 2 --set data.train_size=32")
        for name in "second", "pets":
            shutil.copytree(self.folder / "runs" / "first", self.folder / "runs" / name)

    def __call__(self, line: str, timeout: float = 900) -> subprocess.CompletedProcess[str]:
        """Run `line` in a shell; published weights, which need the network, become a file of weights that is here."""
        if _PUBLISHED.search(line):
            self._weights()
            line = _PUBLISHED.sub("weights.pth", line)
        done = subprocess.run(
            ["bash", "-c", line], cwd=self.folder, env=self._env, timeout=timeout, capture_output=True, text=True,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode == 0, f"{line}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
        assert "Traceback" not in done.stderr, done.stderr
        return done

    def _weights(self) -> None:
        """weights.pth: a ResNet-50 for ImageNet's 1,000 classes that has learned nothing, as torchvision saves it."""
        path = self.folder / "weights.pth"
        if not path.exists():
            import torch
            import torchvision

            torch.manual_seed(0)
            torch.save(torchvision.models.resnet50().state_dict(), path)
