"""A run's folder: `runs/<name>/` with recipe.toml, metrics.jsonl and checkpoints/, and `runs/latest`.

metrics.jsonl holds one JSON object per line: `{"kind": "train", "step", "epoch", "loss", "lr", …}` each time the loss
is read, `{"kind": "eval", "step", "epoch", "top1", "top5", "loss", "images", …}` after each evaluation.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resnetctl.errors import CheckpointError, UsageError, printable
from resnetctl.files import fsync_folder, write_atomically

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}")
LATEST = "latest"


@dataclass(frozen=True)
class Run:
    """One run's folder."""

    folder: Path

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.name

    @property
    def checkpoints(self) -> Path:
        """The folder of its checkpoints."""
        return self.folder / "checkpoints"

    @property
    def metrics(self) -> Path:
        """Its metrics.jsonl."""
        return self.folder / "metrics.jsonl"

    @property
    def recipe(self) -> Path:
        """Its recipe.toml, with the origin of each value."""
        return self.folder / "recipe.toml"

    @property
    def events(self) -> Path:
        """The folder of its TensorBoard event file, if it writes one."""
        return self.folder / "tensorboard"

    def launch(self) -> str | None:
        """The launch that started it (see `World.launch`), by which a restarted launch finds its run."""
        try:
            return self._launch.read_text(encoding="utf-8")
        except (OSError, ValueError):
            return None

    def mark_launch(self, launch: str | None) -> None:
        """Record the launch that started it."""
        if launch is None:
            self._launch.unlink(missing_ok=True)
        else:
            write_atomically(self._launch, launch)

    @property
    def _launch(self) -> Path:
        return self.folder / ".launch"

    def is_untouched(self) -> bool:
        """Whether it was interrupted before its first checkpoint."""
        return self.recipe.is_file() and not any(self.checkpoints.glob("step-*"))

    def log(self, line: dict[str, Any]) -> None:
        """Append one object to metrics.jsonl."""
        with self.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def sync_metrics(self) -> None:
        """Make the lines so far survive a power cut; called before the checkpoint that follows them."""
        if self.metrics.exists():
            with self.metrics.open("rb") as file:
                os.fsync(file.fileno())

    def trim_metrics(self, step: int, *, evaluated: bool) -> None:
        """Drop lines logged after `step`, and an evaluation at `step` unless it was part of the checkpoint."""
        if not self.metrics.exists():
            return
        kept = []
        for line in self.metrics.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                entry = json.loads(line)
                at, kind = int(entry["step"]), entry["kind"]
            except (ValueError, KeyError, TypeError):
                continue  # a killed writer's partial line
            if at < step or (at == step and (kind != "eval" or evaluated)):
                kept.append(line)
        write_atomically(self.metrics, "".join(f"{line}\n" for line in kept))


def check_name(name: str) -> str:
    """A run's name as a folder name. Raises UsageError if it is not a valid one, or is a path."""
    if not NAME.fullmatch(name) or name == LATEST:
        raise UsageError(
            f"{printable(name)!r} cannot be a run's name",
            hint="letters, digits and . _ + - (starting with a letter or digit), and not 'latest'",
        )
    return name


def create_run(root: Path, name: str | None, recipe_name: str) -> Run:
    """A new folder under `root`. Raises UsageError if the name is taken: a run is never overwritten."""
    if name is not None:
        folder = root / check_name(name)
        root.mkdir(parents=True, exist_ok=True)
        try:
            folder.mkdir()
        except FileExistsError:
            raise UsageError(
                f"there is already a run {printable(folder)}",
                hint=f"continue it with: resnetctl train --resume {name}; or choose another --name",
            ) from None
    else:
        stem = re.sub(r"[^A-Za-z0-9._+-]", "-", recipe_name).lstrip("._+-") or "run"
        folder = _new_folder(root, f"{stem[:60]}-{time.strftime('%Y%m%d-%H%M%S')}")
    (folder / "checkpoints").mkdir()
    fsync_folder(root)
    return Run(folder)


def discard_run(run: Run) -> None:
    """Remove the folder of a run that never reached its first step; call it under the folder's lock.

    Files that the run does not write at its beginning are kept, and the folder with them.
    """
    for path in (run.recipe, run.metrics, run._launch, run.folder / ".lock"):
        path.unlink(missing_ok=True)
    for folder in (run.checkpoints, run.folder):
        with contextlib.suppress(OSError):  # not empty, or missing
            folder.rmdir()


def refuse_links(run: Run) -> None:
    """Raise CheckpointError if one of the run's own files or folders is a symbolic link."""
    for path in (run.checkpoints, run.metrics, run.events, run.recipe, run._launch, run.folder / ".lock"):
        if path.is_symlink():
            raise CheckpointError(
                f"{printable(path)} is a symbolic link, which a run's folder must not contain",
                hint="move its target into its place; the runs' folder as a whole (--runs) may be a link",
            )


def _new_folder(root: Path, stem: str) -> Path:
    """A new folder, however many runs begin within one second."""
    root.mkdir(parents=True, exist_ok=True)
    n = 1
    while True:
        folder = root / (stem if n == 1 else f"{stem}-{n}")
        try:
            folder.mkdir()
        except FileExistsError:
            n += 1
        else:
            return folder


def point_latest(root: Path, run: Run) -> None:
    """Point `root/latest` to `run`: a relative symbolic link, replaced atomically."""
    temp = root / f".latest-{os.getpid()}"
    temp.unlink(missing_ok=True)
    temp.symlink_to(run.name)
    temp.replace(root / LATEST)
