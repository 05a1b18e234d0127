"""Loads pretrained weights: torchvision's, the Hugging Face Hub's, and files, without pickle's dangers."""

from __future__ import annotations

import json
import os
import pickle
import re
import warnings
from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from resnetctl.download import download, file_checksum
from resnetctl.errors import DataError, ResnetctlError, UsageError, printable
from resnetctl.model.description import description_in, file_metadata
from resnetctl.model.hub import PREFIX, hub_file
from resnetctl.model.resnet import BlurConv2d
from resnetctl.progress import silent

MIRROR_VARIABLE = "RESNETCTL_WEIGHTS_URL"
PUBLISHED = ("imagenet1k-v1", "imagenet1k-v2")

_HASH_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.pth$")  # torch.hub's rule: at least eight digits
_MAX_BYTES = 4 << 30
_OFFLINE_HINT = (
    "start without them: --set model.weights=none; or from a file: --set model.weights=FILE.pth; "
    f"or set a mirror with the same file names: {MIRROR_VARIABLE}=URL"
)


def load_weights(network: nn.Module, weights: str, arch: str, classes: int, names: Sequence[str] = ()) -> Iterator[str]:
    """Fill `network`, built for `classes`, with `weights`, yielding a message before each action; "none" does nothing.

    "imagenet1k-v1" and "-v2" are torchvision's, downloaded once into torch.hub's folder and checked against the hash in
    their name; "hf:OWNER/NAME" is timm's file on the Hugging Face Hub. Anything else is a .safetensors file (ours too:
    `model.*`) or a .pth / .pt file of tensors. Where the file has another number of classes the last layer stays new,
    and that is told; where it names its classes, they are compared with `names`. Raises ResnetctlError if the
    weights cannot be had or do not fit.
    """
    if weights == "none":
        return
    if weights in PUBLISHED:
        path = yield from _published_file(weights, arch)
    elif weights.startswith(PREFIX):
        path = yield from hub_file(weights, arch)
    else:
        path = Path(weights).expanduser()
    yield from fill(network, read_weights(path), path, classes, names)


# --- published weights ----------------------------------------------------------------------------------------------


def published_entry(weights: str, arch: str) -> Any:
    """torchvision's entry of published weights: address, preprocessing, figures. Raises UsageError if there is none."""
    import torchvision

    enum = torchvision.models.get_model_weights(arch)
    members = {name: f"IMAGENET1K_{name.rpartition('-')[2].upper()}" for name in PUBLISHED}
    if members[weights] not in enum.__members__:
        known = ", ".join(name for name, member in members.items() if member in enum.__members__)
        raise UsageError(f"{arch} has no weights {weights}", hint=f"it has {known}: --set model.weights=...")
    return enum[members[weights]]


def _published_file(weights: str, arch: str) -> Generator[str, None, Path]:
    """The published file on this machine, downloaded if needed."""
    url = published_entry(weights, arch).url
    name = url.rpartition("/")[2]
    if mirror := os.environ.get(MIRROR_VARIABLE, "").rstrip("/"):
        # the URL of a single file is allowed too; its name then contains the hash
        name = mirror.rpartition("/")[2] if mirror.endswith(".pth") else name
        url = mirror if mirror.endswith(".pth") else f"{mirror}/{name}"
    found = _HASH_IN_NAME.search(name)
    if found is None:
        raise UsageError(f"{printable(url)} has no hash in its name", hint=f"set {MIRROR_VARIABLE} to a folder's URL")
    path, checksum = Path(torch.hub.get_dir()) / "checkpoints" / name, f"sha256:{found[1]}"
    if path.is_file():
        if file_checksum(path, "sha256").startswith(checksum):
            return path
        yield f"{printable(path)} does not match the hash in its name; downloading it again"
    path.parent.mkdir(parents=True, exist_ok=True)
    yield f"downloading {printable(url)} to {printable(path.parent)}"
    try:
        download(url, path, checksum, silent, max_bytes=_MAX_BYTES, hint=_OFFLINE_HINT)
    except DataError as error:  # exit code 3 is for data sets
        raise ResnetctlError(error.message, hint=error.hint) from error
    return path


# --- files ----------------------------------------------------------------------------------------------------------


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """The model's tensors in `path` under torchvision's names, on the CPU. Raises ResnetctlError if there are none."""
    if path.suffix not in (".safetensors", ".pth", ".pt"):
        raise UsageError(
            f"model.weights = {printable(path)} is neither published weights nor a .safetensors, .pth or .pt file",
            hint=f"one of none, {', '.join(PUBLISHED)}, {PREFIX}OWNER/NAME, or a file",
        )
    if not path.is_file():
        raise UsageError(
            f"there is no file {printable(path)}", hint="model.weights is a path from the folder you are in"
        )
    state = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickled(path)
    if not state:
        raise ResnetctlError(f"{printable(path)} holds no tensors of a model")
    return state


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        state = load(path.read_bytes())
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise ResnetctlError(f"{printable(path)} is not a safetensors file, or damaged: {printable(error)}") from None
    # exported files contain BlurPool's constant kernels, so that no other program mistakes the network for a plain one
    state = {name: tensor for name, tensor in state.items() if not name.endswith(".blur")}
    for part in ("ema.", "model."):  # a checkpoint of ours: the average was evaluated
        ours = {name.removeprefix(part): tensor for name, tensor in state.items() if name.startswith(part)}
        if ours:
            return ours
    return state


def _read_pickled(path: Path) -> dict[str, torch.Tensor]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its advice to file issues is not for our users
            document = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises many kinds of errors, which all mean the same here
        # their messages advise unsafe loading
        why = (
            "it holds more than tensors"
            if isinstance(error, pickle.UnpicklingError)
            else "it is damaged, or not written by torch.save"
        )
        raise ResnetctlError(
            f"{printable(path)} cannot be used: {why if path.stat().st_size else 'it is empty'}",
            hint="only plain state dicts are read, since anything else in such a file could run code",
        ) from None
    for wrapper in ("state_dict", "model"):  # PyTorch's ImageNet example, torchvision's references
        if isinstance(document, Mapping) and isinstance(document.get(wrapper), Mapping):
            document = document[wrapper]
    if not isinstance(document, Mapping):
        raise ResnetctlError(f"{printable(path)} is not a state dict")
    # DistributedDataParallel's prefix
    return {
        str(name).removeprefix("module."): tensor
        for name, tensor in document.items()
        if isinstance(tensor, torch.Tensor)
    }


def fill(
    network: nn.Module, state: Mapping[str, torch.Tensor], path: Path, classes: int, names: Sequence[str] = ()
) -> Iterator[str]:
    """Copy `state`, read from `path`, into `network`; raises ResnetctlError if it does not fit.

    With a different number of classes, or classes other than `names` (empty: any), the last layer stays new.
    """
    state, (has_blur_weights, known) = dict(state), _said_by(path)
    head = state.get("fc.weight")
    own = network.state_dict()
    if (
        head is not None
        and head.dim() == 2
        and head.shape[0] != classes
        and head.shape[1:] == own["fc.weight"].shape[1:]
    ):
        yield f"the last layer is new: {printable(path.name)} has {head.shape[0]:,} classes, the data set {classes:,}"
        state["fc.weight"], state["fc.bias"] = own["fc.weight"], own["fc.bias"]
    elif head is not None and "fc.bias" in state and names and len(known) == len(head) and known != tuple(names):
        yield from _other_classes(state, own, path, known, names)
    for name, tensor in own.items():
        if name.endswith(".num_batches_tracked"):  # files from before PyTorch 0.4.1 do not count batches
            state.setdefault(name, tensor)
    wrong = [f"{name} is missing" for name in own if name not in state]
    wrong += [f"{printable(name)} is not of this model" for name in state if name not in own]
    wrong += [
        f"{name} is {_shape(state[name])}, not {_shape(own[name])}"
        for name in own
        if name in state and state[name].shape != own[name].shape
    ]
    if wrong:
        more = f", and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise ResnetctlError(
            f"{printable(path)} does not fit this model: {'; '.join(wrong[:5])}{more}", hint=_what_it_is(state, own)
        )
    broken = [name for name, tensor in state.items() if not tensor.isfinite().all()]
    if broken:
        raise ResnetctlError(
            f"{printable(path)} holds weights that are not finite: {printable(broken[0])}",
            hint="the run that wrote it had diverged: use an earlier checkpoint",
        )
    network.load_state_dict(state)
    has_blur = any(isinstance(module, BlurConv2d) for module in network.modules())
    if has_blur != has_blur_weights:
        yield (
            f"{printable(path.name)} was trained {'without' if has_blur else 'with'} BlurPool, but the model is built "
            f"{'with' if has_blur else 'without'} it; to change that: --set model.blurpool={str(not has_blur).lower()}"
        )


_BLOCKS = {(False, 2): 18, (False, 6): 34, (True, 6): 50, (True, 23): 101, (True, 36): 152}


def _what_it_is(state: Mapping[str, torch.Tensor], own: Mapping[str, torch.Tensor]) -> str:
    """A guess at the model of `state`, which does not fit a model of tensors `own`."""
    only = "resnetctl trains torchvision's ResNets only"
    if "conv1.0.weight" in state:
        return f"its stem has three convolutions, like that of timm's resnet50d; {only}"
    seen, asked = _arch_of(state), _arch_of(own)
    return f"it looks like a {seen}: --arch {seen}" if seen and seen != asked else only


def _arch_of(state: Mapping[str, torch.Tensor]) -> str | None:
    """torchvision's name of the ResNet with these tensors, by its block type and number of blocks in stage 3."""
    blocks = {name.split(".")[1] for name in state if name.startswith("layer3.")}
    depth = _BLOCKS.get(("layer3.0.conv3.weight" in state, len(blocks)))
    return f"resnet{depth}" if depth else None


def _shape(tensor: torch.Tensor) -> str:
    return "×".join(map(str, tensor.shape)) or "one number"


def _other_classes(
    state: dict[str, torch.Tensor],
    own: Mapping[str, torch.Tensor],
    path: Path,
    known: Sequence[str],
    names: Sequence[str],
) -> Iterator[str]:
    """Adapt a last layer for the classes `known` to `names`: the same number, reordered or different."""
    if set(known) == set(names):
        place = {name: n for n, name in enumerate(known)}
        order = torch.tensor([place[name] for name in names])
        yield f"{printable(path.name)} has the classes in another order: its last layer is reordered"
        state["fc.weight"], state["fc.bias"] = state["fc.weight"][order], state["fc.bias"][order]
    else:
        strange = next(name for name in names if name not in set(known))
        yield (
            f"the last layer is new: {printable(path.name)} has {len(known):,} other classes than the data set, "
            f"without {printable(strange)}"
        )
        state["fc.weight"], state["fc.bias"] = own["fc.weight"], own["fc.bias"]


class _Said(NamedTuple):
    blurpool: bool = False
    classes: tuple[str, ...] = ()


def _said_by(path: Path) -> _Said:
    """BlurPool and classes from an exported file or a checkpoint of ours; without them, no BlurPool."""
    if (said := description_in(path)) is not None:
        return _Said(said.blurpool, said.classes)
    try:
        document = json.loads((file_metadata(path) or {})["resnetctl"])
        return _Said(document["recipe"]["model"]["blurpool"] is True, tuple(map(str, document.get("classes", ()))))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return _Said()
