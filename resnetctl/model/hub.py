"""Weights from the Hugging Face Hub: timm's ResNets, whose tensors have torchvision's names."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Generator
from pathlib import Path
from typing import Any

from resnetctl.errors import ResnetctlError, UsageError, needs_package, printable
from resnetctl.recipe import ARCHITECTURES

PREFIX = "hf:"
_WEIGHTS, _CONFIG = "model.safetensors", "config.json"
_EXAMPLE = "hf:timm/resnet50.a1_in1k"
_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*(@[\w./-]+)?", re.ASCII)


def hub_file(weights: str, arch: str) -> Generator[str, None, Path]:
    """The local path of the weights `hf:OWNER/NAME` (or `hf:OWNER/NAME@REVISION`), downloaded once if needed.

    They are kept in the Hub's own cache (HF_HOME), which is enough with HF_HUB_OFFLINE=1. Yields a message before each
    action. Raises UsageError if the network there is not `arch`, and ResnetctlError if it is not available.
    """
    name = weights.removeprefix(PREFIX)
    if not _NAME.fullmatch(name):
        raise UsageError(f"{printable(weights)} names no repository", hint=f"such as {_EXAMPLE}")
    repository, _, revision = name.partition("@")
    config = _fetch(repository, revision, _CONFIG)
    if config is not None:
        _check_architecture(weights, _read(config), arch)
    if not isinstance(_hub().try_to_load_from_cache(repository, _WEIGHTS, revision=revision or None), str):
        yield f"downloading {_WEIGHTS} of {name} from the Hugging Face Hub"
    path = _fetch(repository, revision, _WEIGHTS)
    if path is None:
        raise ResnetctlError(
            f"{printable(weights)} has no {_WEIGHTS}", hint=f"timm's repositories have one: {_EXAMPLE}"
        )
    _check_content(path)
    return path


def look(path: Path) -> dict[str, Any]:
    """The preprocessing of the network at `path`, from `hub_file`, by recipe key; empty if unknown.

    timm's rule: the shorter side is resized to floor(size / crop_pct).
    """
    config = path.parent / _CONFIG
    given: Any = _read(config).get("pretrained_cfg")
    try:
        size = int(given["input_size"][-1])
        return {
            "data.val_size": size,
            "data.val_resize": math.floor(size / float(given["crop_pct"])),
            "data.interpolation": str(given["interpolation"]),
            "data.mean": tuple(map(float, given["mean"])),
            "data.std": tuple(map(float, given["std"])),
        }
    except (KeyError, TypeError, ValueError, ZeroDivisionError, IndexError):
        return {}


def _hub() -> Any:
    """The Hub's client, without its progress bars and advice."""
    try:
        import huggingface_hub
        from huggingface_hub import constants, errors, utils  # noqa: F401 - makes them its attributes
    except ImportError:
        raise needs_package("a model from the Hugging Face Hub", "huggingface_hub", "hub") from None
    utils.disable_progress_bars()
    utils.logging.set_verbosity_error()
    return huggingface_hub


def _fetch(repository: str, revision: str, file: str) -> Path | None:
    """A file of a repository, through the cache; None if the repository has no such file."""
    hub = _hub()
    try:
        return Path(hub.hf_hub_download(repository, file, revision=revision or None))
    except Exception as error:  # may come from several HTTP libraries
        if isinstance(error, hub.errors.RemoteEntryNotFoundError):
            return None
        raise _explained(error, repository, revision, file) from error


def _explained(error: Exception, repository: str, revision: str, file: str) -> ResnetctlError:
    """The error for a file that could not be fetched, with what to do."""
    hub = _hub()
    name, server = f"{PREFIX}{repository}", hub.constants.ENDPOINT
    page = f"{server}/{repository}"
    match error:
        case hub.errors.GatedRepoError():
            return ResnetctlError(
                f"{name} is gated: its owner restricts downloads",
                hint=f"accept its conditions at {page}, and set HF_TOKEN to your account's token",
            )
        case hub.errors.RepositoryNotFoundError():
            return ResnetctlError(
                f"there is no {name}, or it is private", hint=f"see {page}; for a private one set HF_TOKEN"
            )
        case hub.errors.RevisionNotFoundError():
            return ResnetctlError(f"{name} has no revision {revision}", hint=f"see {page}/commits/main")
        case hub.errors.LocalEntryNotFoundError() if hub.constants.HF_HUB_OFFLINE:
            return ResnetctlError(
                f"{name} is not on this machine, and HF_HUB_OFFLINE is set", hint="unset HF_HUB_OFFLINE"
            )
        case hub.errors.LocalEntryNotFoundError():
            return ResnetctlError(
                f"{name} is not on this machine, and {server} cannot be reached",
                hint="give the path of a file that was downloaded elsewhere, or name a mirror: HF_ENDPOINT=URL",
            )
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return ResnetctlError(
        f"cannot download {file} of {name}: {printable(lines[0])}", hint="run the same command again to resume it"
    )


def _read(config: Path) -> dict[str, Any]:
    try:
        document = json.loads(config.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _check_architecture(weights: str, config: dict[str, Any], arch: str) -> None:
    """Raise UsageError if a repository's network is not torchvision's `arch`."""
    theirs = config.get("architecture")
    if config.get("architectures"):
        raise UsageError(
            f"{printable(weights)} is a transformers model, whose tensors have other names", hint=f"use {_EXAMPLE}"
        )
    if theirs in (None, arch):
        return
    if theirs in ARCHITECTURES:
        raise UsageError(f"{printable(weights)} is a {theirs}, not a {arch}", hint=f"--arch {theirs}")
    raise UsageError(
        f"{printable(weights)} is a {printable(theirs)}, not torchvision's {arch}: stem, shortcuts or widths differ",
        hint=f"resnetctl trains torchvision's ResNets only, such as {_EXAMPLE}",
    )


def _check_content(path: Path) -> None:
    """Check a large file against the sha256 in its cache name; raise ResnetctlError if it differs."""
    blob = path.resolve()
    if not re.fullmatch("[0-9a-f]{64}", blob.name):
        return
    with open(blob, "rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != blob.name:
            raise ResnetctlError(
                f"{printable(blob)} is damaged: its sha256 does not match its name",
                hint=f"remove it and run the same command again: rm {printable(os.fspath(blob))}",
            )
