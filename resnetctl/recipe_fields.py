"""The recipe's values, which determine what a training run computes, with their meaning and bounds.

A key is declared once: its default, its bounds, whether a resumed run may change it, and its meaning below.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from resnetctl.recipe_values import (
    Section,
    between,
    each,
    increasing,
    key,
    less_than,
    not_empty,
    one_of,
    rising,
    zero_or,
)

ARCHITECTURES = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")


@dataclass(frozen=True, kw_only=True)
class ModelRecipe(Section):
    """The network and its starting weights."""

    arch: str = key("resnet50", one_of(*ARCHITECTURES))
    """torchvision's name of the network."""
    weights: str = key("none", not_empty)
    """Starting weights: "none", "imagenet1k-v1", "imagenet1k-v2" (torchvision's), "hf:OWNER/NAME" (timm's, from the
    Hugging Face Hub), or a .safetensors or .pth file."""
    zero_init_residual: bool = key(True)
    """Start each residual branch's last batch norm at zero, so that every block starts as the identity."""
    blurpool: bool = key(False)
    """Blur before each strided convolution with 16 or more input channels."""
    blurpool_max: bool = key(False)
    """With blurpool: blur instead of the max-pool's stride too, as Composer does and FFCV does not."""
    conv_init: str = key("fan-out", one_of("fan-out", "fan-in"))
    """Convolutions start normal with deviation √(2 / fan) (He et al. 2015): "fan-out", as in torchvision, or "fan-in",
    as in NVIDIA's examples and Composer."""
    drop_path: float = key(0.0, less_than(1))
    """Probability that an image skips the last block's residual branch, rising linearly from 0 at the first block
    (Huang et al. 2016, stochastic depth)."""
    norm_init: str = key("ones", one_of("ones", "uniform"))
    """Batch norms' weights start at one, or uniform from 0 to 1, as in Composer."""
    head_init: str = key("uniform", one_of("uniform", "normal", "fan-in"))
    """The last layer starts uniform, as torch.nn.Linear does; "normal": with deviation 0.01 and no bias (Goyal et al.
    2017); or "fan-in": normal with deviation √(2 / inputs), as in Composer."""
    head_bias: str = key("drawn", one_of("drawn", "-log-classes"))
    """The last layer's bias: as head_init draws it, or the negative logarithm of the number of classes, so that
    binary cross-entropy starts low."""

    def _conflicts(self) -> list[tuple[str, str]]:
        if self.blurpool_max and not self.blurpool:
            return [("blurpool_max", "true needs model.blurpool = true")]
        return []


@dataclass(frozen=True, kw_only=True)
class DataRecipe(Section):
    """How images are cropped, resized and normalised."""

    train_size: int = key(224, between(32, 1024))
    """Final training resolution in pixels."""
    train_size_start: int = key(0, zero_or(between(16, 1024)))
    """Training resolution at the start, in pixels; 0: the same as train_size."""
    train_size_ramp: tuple[float, float] = key(
        (0.73, 0.85), rising(0.0, 1.0, "two fractions of the run, 0 <= start <= end <= 1")
    )
    """Fractions of the run between which the resolution grows."""
    train_size_ramp_shift: float = key(0.0, between(-1000.0, 1000.0))
    """Epochs by which both ends of the ramp are delayed; below 0: advanced."""
    train_size_multiple: int = key(32, between(1, 1024))
    """While it grows, the resolution is rounded to a multiple of this many pixels."""
    crop_scale: tuple[float, float] = key(
        (0.08, 1.0), rising(0.001, 1.0, "two fractions of the area, 0.001 <= smallest <= largest <= 1")
    )
    """Smallest and largest area of the random crop, as a fraction of the image's; 1 with ratio 1: all of it."""
    crop_ratio: tuple[float, float] = key(
        (0.75, 4 / 3), rising(0.01, 100.0, "two ratios width / height, 0.01 <= smallest <= largest <= 100")
    )
    """Smallest and largest width / height of the random crop."""
    hflip: float = key(0.5, between(0.0, 1.0))
    """Probability of a horizontal flip."""
    augment: str = key("none", one_of("none", "trivial-augment-wide", "rand-augment", "auto-augment"))
    """Random operations on the cropped image: torchvision's TrivialAugmentWide or AutoAugment for ImageNet, or timm's
    RandAugment, two operations of increasing strength."""
    rand_augment: tuple[float, float] = key((7.0, 0.5), each(0.0, 10.0, "two numbers from 0 to 10"))
    """RandAugment's strength and its standard deviation: [7.0, 0.5] is timm's "rand-m7-mstd0.5-inc1"."""
    color_jitter: tuple[float, float, float, float] = key(
        (0.0, 0.0, 0.0, 0.0), each(0.0, 1.0, "four numbers from 0 to 1")
    )
    """Brightness, contrast, saturation and hue change by a random factor, up to 1 ± this (hue, up to 0.5: shift)."""
    random_erase: float = key(0.0, between(0.0, 1.0))
    """Probability that a random box of 2 to 33 % of the image is erased to the mean colour, as in torchvision."""
    repeated_augmentation: int = key(1, between(1, 100))
    """Times a sample is repeated in a batch, augmented differently; an epoch has proportionally fewer samples."""
    interpolation: str = key("bilinear", one_of("bilinear", "bicubic"))
    """Antialiased resizing: "bilinear" or "bicubic"."""
    val_resize: int = key(256, between(32, 2048))
    """Evaluation: the shorter side is resized to this many pixels."""
    val_size: int = key(224, between(32, 1024))
    """Evaluation: side of the central square crop, in pixels."""
    val_flip_average: bool = key(False)
    """Evaluation: average the outputs for the image and its mirror image."""
    mean: tuple[float, float, float] = key((0.485, 0.456, 0.406), each(0, 1, "three numbers from 0 to 1"))
    """Subtracted from red, green, blue in [0, 1]; ImageNet's, as in torchvision's presets."""
    std: tuple[float, float, float] = key((0.229, 0.224, 0.225), each(0.001, 10, "three numbers from 0.001 to 10"))
    """Red, green, blue are divided by this, in units of [0, 1]."""
    decoder: str = key(
        "auto", one_of("auto", "nvimgcodec", "torchcodec", "torchvision", "pillow", "cuda"), resume="free"
    )
    """The image decoder; "auto": the first available of the others, all with the same pixels. "cuda": training JPEGs
    on the GPU, for fewer than about 4 cores per GPU; its pixels differ slightly."""
    workers: int = key(-1, between(-1, 1024), resume="free")
    """Loader processes; -1: chosen for the machine, 0: none. It never changes a result."""
    timeout_seconds: int = key(300, between(0, 86_400), resume="free")
    """Seconds to wait for a batch before the run stops with an error; 0: no limit."""

    def _conflicts(self) -> list[tuple[str, str]]:
        found = []
        if self.val_size > self.val_resize:
            found.append(("val_size", f"{self.val_size} is more than data.val_resize = {self.val_resize}"))
        if self.train_size_start > self.train_size:
            found.append(
                ("train_size_start", f"{self.train_size_start} is more than data.train_size = {self.train_size}")
            )
        if self.color_jitter[3] > 0.5:
            found.append(("color_jitter", f"hue {self.color_jitter[3]} is more than 0.5, half of the colour circle"))
        if self.decoder == "cuda" and (self.augment != "none" or any(self.color_jitter)):
            found.append(("decoder", '"cuda" decodes out of reach of data.augment and data.color_jitter'))
        return found


@dataclass(frozen=True, kw_only=True)
class TrainRecipe(Section):
    """Duration, batches and arithmetic."""

    epochs: int = key(rule=between(1, 100_000))
    """Passes over the training data."""
    global_batch: int = key(rule=between(1, 1 << 20))
    """Images per optimizer step, over all devices and accumulation."""
    micro_batch: int = key(0, between(0, 1 << 20))
    """Images per forward pass on one device; 0: chosen for the device."""
    sync_bn: bool = key(False)
    """Batch norm over the images of all devices instead of each device's own."""
    loss: str = key("cross-entropy", one_of("cross-entropy", "bce"))
    """"cross-entropy", or "bce": binary cross-entropy, each class independently."""
    label_smoothing: float = key(0.0, less_than(1))
    """Share of the target spread over all classes."""
    bce_threshold: float = key(0.0, less_than(1))
    """With "bce": targets above it become 1 and all others 0, so that each class of a mixed image counts fully, as
    timm's bce_target_thresh does; 0: targets as they are."""
    bce_sum: bool = key(False)
    """With "bce": the sum over the classes, as in Composer, instead of their mean, as in timm."""
    clip_grad_norm: float = key(0.0, between(0.0, 1e9))
    """Maximum gradient norm over all parameters: larger ones are scaled to it; 0: no limit."""
    freeze: str = key("nothing", one_of("nothing", "backbone"))
    """What is frozen in the first freeze_epochs: "nothing", or the "backbone", which is all but the last layer."""
    freeze_epochs: float = key(0.0, between(0.0, 100_000.0))
    """Epochs until everything is unfrozen; 0: frozen for the whole run."""
    freeze_norm: bool = key(False)
    """Batch norm keeps, and uses, the statistics of the starting weights."""
    mixup_alpha: float = key(0.0, between(0.0, 2.0))
    """Images and targets of a batch are blended in pairs, the share drawn from Beta(alpha, alpha); 0: off."""
    cutmix_alpha: float = key(0.0, between(0.0, 2.0))
    """A box of each image, and that share of its target, comes from its partner; with mixup, each half of the time;
    0: off."""
    mix_style: str = key("torchvision", one_of("torchvision", "timm"))
    """Pairs and boxes as in "torchvision", each with the image before, or "timm", the first with the last one."""
    precision: str = key("auto", one_of("auto", "bf16", "fp16", "fp32"))
    """Arithmetic of forward and backward: "auto", "bf16", "fp16" or "fp32"."""
    channels_last: bool = key(True)
    """Keep activations as [B, H, W, C] in memory, which is faster for convolutions on most devices."""
    compile: str = key("auto", one_of("auto", "on", "off"), resume="free")
    """torch.compile: "auto" (on CUDA if a C compiler is found), "on" or "off"."""
    deterministic: bool = key(False)
    """On a GPU, use only bitwise reproducible algorithms, which are slower; on the CPU all are."""
    seed: int = key(0, between(0, (1 << 63) - 1))
    """The seed of the initial weights, the order of the samples and every augmentation."""
    max_steps: int = key(0, between(0, 1 << 40), resume="free")
    """Stop after this many optimizer steps, with the schedule unchanged; 0: no limit."""
    loss_every: int = key(50, between(1, 1 << 30))
    """Steps between readings of the loss, each of which waits for the device."""
    running_loss_every: int = key(0, between(0, 1 << 30))
    """Mini-batches between prints of the running loss; 0: none."""
    tensorboard: bool = key(False, resume="free")
    """Also write the metrics as TensorBoard events into the run's folder (an extra)."""
    eval_every_epochs: int = key(1, between(1, 100_000), resume="free")
    """Epochs between evaluations; the last epoch is always evaluated."""

    def _conflicts(self) -> list[tuple[str, str]]:
        if self.micro_batch > self.global_batch:
            return [("micro_batch", f"{self.micro_batch} is more than train.global_batch = {self.global_batch}")]
        return []


@dataclass(frozen=True, kw_only=True)
class OptimizerRecipe(Section):
    """The optimizer and its rate."""

    name: str = key("sgd", one_of("sgd", "sgdw", "adamw", "lamb"))
    """"sgd" (with momentum), "sgdw" (its decay decoupled, as in Composer), "adamw", or "lamb" (timm's, an extra)."""
    lr: float = key(rule=between(0.0, 1000.0))
    """Peak learning rate."""
    lr_batch: int = key(0, between(0, 1 << 20))
    """The global batch that `lr` is stated for, from which lr_rule computes it for another; 0: lr unscaled."""
    lr_rule: str = key("linear", one_of("linear", "sqrt"))
    """The rate used is lr × global_batch / lr_batch ("linear", Goyal et al. 2017), or lr × the square root of that
    ratio ("sqrt", as timm does for LAMB and Adam)."""
    momentum: float = key(0.9, less_than(1))
    """Share of the last update that is retained."""
    nesterov: bool = key(False)
    """Nesterov's form of the momentum."""
    betas: tuple[float, float] = key((0.9, 0.999), each(0, 0.99999999, "two shares from 0 to less than 1"))
    """"adamw" and "lamb": decay rates of the running means of the gradient and its square."""
    eps: float = key(1e-8, between(0.0, 1.0))
    """"adamw" and "lamb": added to the denominator."""
    backbone_lr: float = key(1.0, between(0.0, 1.0))
    """Factor of the rate for all but the last layer."""
    weight_decay: float = key(0.0, between(0.0, 1.0))
    """"sgd": L2 penalty added to the gradient. "adamw", "lamb": share of the weights, times the rate, removed by each
    step. "sgdw": share of the weights removed by a step at the peak rate."""
    no_decay: str = key("nothing", one_of("nothing", "norm", "named-bn", "norm-and-bias"))
    """Excluded from weight decay: "nothing"; "norm", batch norm's weights and biases; "named-bn", those of them with
    bn in their names, unlike the shortcuts', as in FFCV and NVIDIA's examples; or "norm-and-bias"."""

    def _conflicts(self) -> list[tuple[str, str]]:
        if self.nesterov and self.momentum == 0:
            return [("nesterov", "true needs an optimizer.momentum above 0")]
        if self.nesterov and self.name not in ("sgd", "sgdw"):
            return [("nesterov", f"{self.name} does not support it")]
        return []


@dataclass(frozen=True, kw_only=True)
class ScheduleRecipe(Section):
    """The learning rate over the run, as a factor of its peak."""

    name: str = key("linear", one_of("constant", "linear", "cosine", "step", "one-cycle"))
    """After the warm-up: "constant"; "linear" or "cosine" to `final`; "step": drops by step_factor; or "one-cycle": a
    cosine up during the warm-up, then a cosine down."""
    per: str = key("step", one_of("step", "epoch"))
    """The rate changes with each "step", or with each "epoch" and is constant within it."""
    warmup_epochs: float = key(0.0, between(0.0, 100_000.0))
    """Epochs of linear rise to the peak; at most half of the run."""
    warmup_start: float = key(0.0, between(0.0, 1.0))
    """Factor of the peak at step 0 of a warm-up."""
    peak_in_warmup: bool = key(False)
    """The warm-up's last step (or epoch) is at the peak, as in NVIDIA's examples; else the one after it is."""
    decay_from: str = key("warmup", one_of("warmup", "start"))
    """"linear" and "cosine" count from the end of the "warmup", or from the "start" of the run as timm does."""
    final: float = key(0.0, between(0.0, 1.0))
    """Factor of the peak at the end of "linear", "cosine" and "one-cycle"."""
    step_epochs: float = key(30.0, between(0.001, 100_000.0))
    """Epochs between the drops of "step"."""
    step_milestones: tuple[float, ...] = key((), increasing)
    """Epochs at which "step" drops, such as [30, 60, 80]; empty: every step_epochs."""
    step_factor: float = key(0.1, between(0.0, 1.0))
    """Factor of each drop of "step"."""


@dataclass(frozen=True, kw_only=True)
class EmaRecipe(Section):
    """An exponential moving average of weights and buffers, used for evaluation."""

    every_steps: int = key(0, between(0, 1 << 40))
    """Optimizer steps between updates of the average; 0: no average."""
    count: str = key("run", one_of("run", "epoch"))
    """Updates follow every every_steps-th step of the "run"; or the first step of each "epoch" and every every_steps-th
    from there, as in torchvision's reference."""
    decay: float = key(0.9999, less_than(1))
    """Share of the average that an update retains."""
    rescale: bool = key(False)
    """1 - decay is multiplied by global_batch × every_steps / epochs, as torchvision's reference does."""
    half_life: float = key(0.0, between(0.0, 1e12))
    """Steps in which a weight's share of the average halves, instead of decay; 0: decay decides."""
    in_warmup: str = key("average", one_of("average", "copy"))
    """During the schedule's warm-up an update averages, or copies, as in torchvision's reference."""


@dataclass(frozen=True, kw_only=True)
class CheckpointRecipe(Section):
    """When checkpoints are written, and how many are kept."""

    every_steps: int = key(0, between(0, 1 << 40), resume="free")
    """Optimizer steps between checkpoints; 0: by time."""
    every_minutes: float = key(10.0, between(0.01, 1e6), resume="free")
    """Minutes between checkpoints if every_steps is 0."""
    keep: int = key(2, between(2, 10_000), resume="free")
    """Number of newest checkpoints kept, besides the best."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that determines a run; `origins` gives the origin of each `section.key`."""

    name: str
    """The preset's name, or the recipe file's."""
    summary: str = ""
    """One line on its purpose."""
    notes: tuple[str, ...] = ()
    """Remarks on its values; (m) marks one recalled rather than read from the source."""
    published: str = ""
    """The result its authors published, as "published by X: …"; empty if there is none."""
    source: str = ""
    """Where its values come from."""
    model: ModelRecipe
    """The network."""
    data: DataRecipe
    """How images are cut, scaled and normalised."""
    train: TrainRecipe
    """Duration and batches."""
    optimizer: OptimizerRecipe
    """The optimizer and its rate."""
    schedule: ScheduleRecipe
    """The learning rate over the run."""
    ema: EmaRecipe = field(default_factory=EmaRecipe)
    """The moving average of the weights."""
    checkpoint: CheckpointRecipe
    """When checkpoints are written."""
    origins: dict[str, str] = field(default_factory=dict, compare=False)
    """The origin of each value, by `section.key`."""


SECTIONS: dict[str, type] = {
    "model": ModelRecipe,
    "data": DataRecipe,
    "train": TrainRecipe,
    "optimizer": OptimizerRecipe,
    "schedule": ScheduleRecipe,
    "ema": EmaRecipe,
    "checkpoint": CheckpointRecipe,
}
ABOUT = ("name", "summary", "notes", "published", "source")
