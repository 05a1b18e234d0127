"""The recipe's values: every one that decides what a training run computes, with its meaning and its bounds.

Each class checks its own values when it is made, and names everything that is wrong at once.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any, get_args, get_origin, get_type_hints

from resnetctl.errors import UsageError, printable

ARCHITECTURES = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")

_Rule = tuple[str, Callable[[Any], bool]]


class RecipeError(UsageError):
    """A recipe that cannot be; `problems` holds (key, what is wrong) for each value, all of them at once."""

    def __init__(self, problems: list[tuple[str, str]], *, hint: str | None = None) -> None:
        lines = [f"{key}: {text}" for key, text in problems]
        one = len(lines) == 1
        super().__init__(lines[0] if one else "\n  ".join([f"{len(lines)} problems:", *lines]), hint=hint)
        self.problems = problems


@dataclass(frozen=True, kw_only=True)
class ModelRecipe:
    """Which network, and from which weights it starts."""

    arch: str = "resnet50"
    """torchvision's name of the network."""
    weights: str = "none"
    """Starting weights: "none", "imagenet1k-v1", "imagenet1k-v2" (torchvision's), or a .safetensors or .pth file."""
    zero_init_residual: bool = True
    """Start each residual branch's last batch norm at zero, so that every block starts as the identity."""
    blurpool: bool = False
    """Blur before each strided convolution that has 16 input channels or more."""

    def __post_init__(self) -> None:
        _check(self, {"arch": _one_of(*ARCHITECTURES), "weights": _text})


@dataclass(frozen=True, kw_only=True)
class DataRecipe:
    """How images are cut, scaled and normalised."""

    train_size: int = 224
    """Final training resolution in pixels."""
    train_size_start: int = 0
    """Training resolution at the start, in pixels; 0: the same as train_size."""
    train_size_ramp: tuple[float, float] = (0.73, 0.85)
    """Fractions of the run between which the resolution grows (rounded to a multiple of 32 in between)."""
    crop_scale: tuple[float, float] = (0.08, 1.0)
    """Smallest and largest area of the random crop, as a fraction of the image's; 1 with ratio 1: all of it."""
    crop_ratio: tuple[float, float] = (0.75, 4 / 3)
    """Smallest and largest width / height of the random crop."""
    hflip: float = 0.5
    """Probability of a horizontal flip."""
    interpolation: str = "bilinear"
    """How images are resized, with antialias: "bilinear" or "bicubic"."""
    val_resize: int = 256
    """Evaluation: the shorter side is resized to this many pixels."""
    val_size: int = 224
    """Evaluation: the central square cut out of it, in pixels."""
    val_flip_average: bool = False
    """Evaluation: average the outputs for the image and its mirror image."""
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    """Subtracted from red, green, blue in [0, 1]; ImageNet's, as in torchvision's presets."""
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    """Red, green, blue are divided by this, in units of [0, 1]."""
    decoder: str = "auto"
    """What reads JPEGs: "auto", "torchvision" or "nvimgcodec" (an extra): the same pixels, sooner."""
    workers: int = -1
    """Loader processes; -1: chosen from the machine, 0: none. It never changes a result."""
    timeout_seconds: int = 300
    """How long a batch may take a loader process before the run stops with an error; 0: for ever."""

    def __post_init__(self) -> None:
        wrong = _check(
            self,
            {
                "train_size": _between(32, 1024),
                "train_size_start": ("0, or from 32 to 1024", lambda v: v == 0 or 32 <= v <= 1024),
                "train_size_ramp": ("two fractions of the run, 0 <= start <= end <= 1", _rising(0.0, 1.0)),
                "crop_scale": ("two fractions of the area, 0.001 <= smallest <= largest <= 1", _rising(0.001, 1.0)),
                "crop_ratio": ("two ratios width / height, 0.01 <= smallest <= largest <= 100", _rising(0.01, 100.0)),
                "hflip": _between(0.0, 1.0),
                "interpolation": _one_of("bilinear", "bicubic"),
                "val_resize": _between(32, 2048),
                "val_size": _between(32, 1024),
                "mean": ("three numbers from 0 to 1", lambda v: all(0 <= x <= 1 for x in v)),
                "std": ("three numbers from 0.001 to 10", lambda v: all(0.001 <= x <= 10 for x in v)),
                "decoder": _one_of("auto", "torchvision", "nvimgcodec"),
                "workers": _between(-1, 1024),
                "timeout_seconds": _between(0, 86_400),
            },
            late=True,
        )
        if not wrong and self.val_size > self.val_resize:
            wrong.append(("data.val_size", f"{self.val_size} is more than data.val_resize = {self.val_resize}"))
        if not wrong and self.train_size_start > self.train_size:
            wrong.append(
                ("data.train_size_start", f"{self.train_size_start} is more than data.train_size = {self.train_size}")
            )
        if wrong:
            raise RecipeError(wrong)


@dataclass(frozen=True, kw_only=True)
class TrainRecipe:
    """How long, in what batches and in what arithmetic."""

    epochs: int
    """Passes over the training data."""
    global_batch: int
    """Images per optimizer step, over all devices and accumulation."""
    micro_batch: int = 0
    """Images per forward pass on one device; 0: chosen for the device."""
    sync_bn: bool = False
    """Batch norm over the images of all devices together instead of each device's own (CUDA only)."""
    label_smoothing: float = 0.0
    """Share of the target that is spread over all classes."""
    precision: str = "auto"
    """Arithmetic of forward and backward: "auto", "bf16", "fp16" or "fp32"."""
    channels_last: bool = True
    """Keep activations as [B, H, W, C] in memory, which is faster for convolutions on most devices."""
    compile: str = "auto"
    """torch.compile: "auto" (on CUDA where a C compiler is found), "on" or "off"."""
    deterministic: bool = False
    """On a GPU: only algorithms that give the same bits each time, which are slower; on the CPU they all do."""
    seed: int = 0
    """The seed of the initial weights, the order of the samples and every augmentation."""
    max_steps: int = 0
    """Stop after so many optimizer steps, the schedule unchanged; 0: all."""
    loss_every: int = 50
    """Steps between readings of the loss, each of which waits for the device."""
    running_loss_every: int = 0
    """Mini-batches between prints of the running loss; 0: none."""
    eval_every_epochs: int = 1
    """Epochs between evaluations; the last epoch is always evaluated."""

    def __post_init__(self) -> None:
        wrong = _check(
            self,
            {
                "epochs": _between(1, 100_000),
                "global_batch": _between(1, 1 << 20),
                "micro_batch": _between(0, 1 << 20),
                "label_smoothing": ("from 0 to less than 1", lambda v: 0 <= v < 1),
                "precision": _one_of("auto", "bf16", "fp16", "fp32"),
                "compile": _one_of("auto", "on", "off"),
                "seed": _between(0, (1 << 63) - 1),
                "max_steps": _between(0, 1 << 40),
                "loss_every": _between(1, 1 << 30),
                "running_loss_every": _between(0, 1 << 30),
                "eval_every_epochs": _between(1, 100_000),
            },
            late=True,
        )
        if not wrong and self.micro_batch > self.global_batch:
            wrong.append(
                ("train.micro_batch", f"{self.micro_batch} is more than train.global_batch = {self.global_batch}")
            )
        if wrong:
            raise RecipeError(wrong)


@dataclass(frozen=True, kw_only=True)
class OptimizerRecipe:
    """Stochastic gradient descent and its rate."""

    name: str = "sgd"
    """The optimizer: "sgd" (with momentum)."""
    lr: float
    """Peak learning rate."""
    lr_batch: int = 0
    """The global batch that `lr` is stated for; the rate used is lr × global_batch / lr_batch; 0: lr as it is."""
    momentum: float = 0.9
    """Share of the last update that is kept."""
    nesterov: bool = False
    """Nesterov's form of the momentum."""
    weight_decay: float = 0.0
    """L2 penalty added to the gradient, as torch.optim.SGD does."""
    no_decay: str = "nothing"
    """What weight decay leaves out: "nothing", "norm" (batch norm's weights and biases) or "norm-and-bias"."""

    def __post_init__(self) -> None:
        wrong = _check(
            self,
            {
                "name": _one_of("sgd"),
                "lr": _between(0.0, 1000.0),
                "lr_batch": _between(0, 1 << 20),
                "momentum": ("from 0 to less than 1", lambda v: 0 <= v < 1),
                "weight_decay": _between(0.0, 1.0),
                "no_decay": _one_of("nothing", "norm", "norm-and-bias"),
            },
            late=True,
        )
        if not wrong and self.nesterov and self.momentum == 0:
            wrong.append(("optimizer.nesterov", "true needs an optimizer.momentum above 0"))
        if wrong:
            raise RecipeError(wrong)


@dataclass(frozen=True, kw_only=True)
class ScheduleRecipe:
    """The learning rate over the run, as a factor of its peak."""

    name: str = "linear"
    """After the warm-up: "constant", "linear" or "cosine" to 0, or "step" (× step_factor every step_epochs)."""
    warmup_epochs: float = 0.0
    """Epochs of linear rise to the peak; at most half of the run, however short that is."""
    warmup_start: float = 0.0
    """Factor of the peak at step 0 of a warm-up."""
    step_epochs: float = 30.0
    """Epochs between the drops of "step"."""
    step_factor: float = 0.1
    """Factor of each drop of "step"."""

    def __post_init__(self) -> None:
        _check(
            self,
            {
                "name": _one_of("constant", "linear", "cosine", "step"),
                "warmup_epochs": _between(0.0, 100_000.0),
                "warmup_start": _between(0.0, 1.0),
                "step_epochs": _between(0.001, 100_000.0),
                "step_factor": _between(0.0, 1.0),
            },
        )


@dataclass(frozen=True, kw_only=True)
class CheckpointRecipe:
    """When checkpoints are written, and how many stay."""

    every_steps: int = 0
    """Optimizer steps between checkpoints; 0: by time."""
    every_minutes: float = 10.0
    """Minutes between checkpoints where every_steps is 0."""
    keep: int = 2
    """How many of the newest stay, besides the best."""

    def __post_init__(self) -> None:
        _check(
            self,
            {"every_steps": _between(0, 1 << 40), "every_minutes": _between(0.01, 1e6), "keep": _between(2, 10_000)},
        )


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides a run; `origins` says for each `section.key` where its value came from."""

    name: str
    """The preset's name, or the recipe file's."""
    summary: str = ""
    """One line on what it is for."""
    notes: tuple[str, ...] = ()
    """What to know about its values; (m) marks one that was recalled and not read from the source."""
    published: str = ""
    """The result its authors published, as "published by X: …"; empty where there is none."""
    source: str = ""
    """Where its values were read."""
    model: ModelRecipe
    """Which network."""
    data: DataRecipe
    """How images are cut, scaled and normalised."""
    train: TrainRecipe
    """How long and in what batches."""
    optimizer: OptimizerRecipe
    """The optimizer and its rate."""
    schedule: ScheduleRecipe
    """The learning rate over the run."""
    checkpoint: CheckpointRecipe
    """When checkpoints are written."""
    origins: dict[str, str] = field(default_factory=dict, compare=False)
    """Where each value came from, by `section.key`."""


SECTIONS: dict[str, type] = {
    "model": ModelRecipe,
    "data": DataRecipe,
    "train": TrainRecipe,
    "optimizer": OptimizerRecipe,
    "schedule": ScheduleRecipe,
    "checkpoint": CheckpointRecipe,
}
ABOUT = ("name", "summary", "notes", "published", "source")


# --- checks ---------------------------------------------------------------------------------------------------------


def _between(low: float, high: float) -> _Rule:
    return f"from {low} to {high}", lambda value: low <= value <= high


def _rising(low: float, high: float) -> Callable[[Any], bool]:
    return lambda pair: bool(low <= pair[0] <= pair[1] <= high)


def _one_of(*words: str) -> _Rule:
    return "one of " + ", ".join(words), lambda value: value in words


def _storable(value: str) -> bool:
    """Whether `value` can be written as UTF-8 and is of a sane length."""
    return len(value) <= 10_000 and not re.search("[\ud800-\udfff\0]", value)


_text: _Rule = ("text that is not empty", lambda value: bool(value))


def type_name(kind: Any) -> str:
    """A field's type in words."""
    if get_origin(kind) is tuple:
        return "a list of texts" if get_args(kind)[0] is str else f"a list of {len(get_args(kind))} numbers"
    return {bool: "true or false", int: "a whole number", float: "a number", str: "text"}[kind]


def converted(value: Any, kind: Any) -> Any:
    """`value` as a field of type `kind` holds it; TypeError where it is something else."""
    if get_origin(kind) is tuple:
        kinds = get_args(kind)
        if not isinstance(value, list | tuple):
            raise TypeError
        if kinds[-1] is Ellipsis:
            kinds = (kinds[0],) * min(len(value), 1000)
        if len(value) != len(kinds):
            raise TypeError
        return tuple(converted(v, k) for v, k in zip(value, kinds, strict=True))
    if kind is float and type(value) is int and abs(value) < 1 << 53:
        return float(value)
    if type(value) is not kind or (kind is str and not _storable(value)):
        raise TypeError
    return value


def toml_value(value: Any) -> str:
    """`value` as TOML, on one line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # JSON's escapes are TOML's too, but TOML forbids a raw DEL
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, list | tuple):
        return "[" + ", ".join(toml_value(v) for v in value) + "]"
    return repr(value)


def show_value(value: Any) -> str:
    """`value` for a message: as TOML, printable, and not long."""
    text = printable(toml_value(value))
    return text if len(text) <= 120 else text[:117] + "..."


@cache
def kinds(section_class: type) -> dict[str, Any]:
    """The type of each field of a section."""
    return get_type_hints(section_class)


def _check(section: Any, rules: dict[str, _Rule], late: bool = False) -> list[tuple[str, str]]:
    """Bring each field to its type and hold it against its rule; raise all problems, or return them if `late`."""
    prefix = next(name for name, kind in SECTIONS.items() if kind is type(section))
    problems: list[tuple[str, str]] = []
    section_class: Any = type(section)
    for name, kind in kinds(section_class).items():
        value = getattr(section, name)
        allowed, holds = rules.get(name, (type_name(kind), lambda _: True))
        try:
            value = converted(value, kind)
            object.__setattr__(section, name, value)
        except TypeError:
            what = type_name(kind)
            problems.append((f"{prefix}.{name}", f"{show_value(value)} is not {what}" + _and(allowed, what)))
            continue
        if not holds(value):
            problems.append((f"{prefix}.{name}", f"{show_value(value)} is not allowed; it must be {allowed}"))
    if problems and not late:
        raise RecipeError(problems)
    return problems


def _and(allowed: str, what: str) -> str:
    return "" if allowed == what else f"; it must be {allowed}"
