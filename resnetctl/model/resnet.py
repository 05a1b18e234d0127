"""The networks: torchvision's ResNets, optionally with BlurPool.

A ResNet here is torchvision's "v1.5" (He et al., arXiv:1512.03385, with the stride in the 3×3 convolution), and its
parameters keep torchvision's names with any options.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from resnetctl.errors import UsageError, printable
from resnetctl.model.network import ResNet
from resnetctl.recipe import ARCHITECTURES, ModelRecipe

_MIN_BLUR_CHANNELS = 16


def _kernel(channels: int, like: torch.Tensor) -> torch.Tensor:
    """`[channels, 1, 3, 3]`, of the type and on the device of `like`."""
    line = torch.tensor([1.0, 2.0, 1.0], dtype=like.dtype, device=like.device)
    return (torch.outer(line, line) / 16).expand(channels, 1, 3, 3).contiguous()


def blurred(input: torch.Tensor, kernel: torch.Tensor, stride: int) -> torch.Tensor:
    """[B, C, H, W] to [B, C, H / stride, W / stride], by a `_kernel`, zero-padded.

    A depthwise convolution, which no compiler fuses with its neighbours. For a GPU it is therefore compiled as a sum of
    nine shifted images with the same values. On a CPU that takes 4 to 5 times as long at stride 1.
    """
    if input.is_cuda and torch.compiler.is_dynamo_compiling() and not torch.compiler.is_exporting():
        return sum_of_shifted(input, stride)
    return functional.conv2d(input, kernel, stride=stride, padding=1, groups=input.shape[1])


def sum_of_shifted(input: torch.Tensor, stride: int) -> torch.Tensor:
    """As `blurred`, in pointwise operations."""
    height, width = input.shape[2:]
    around = functional.pad(input, (1, 1, 1, 1)).float()
    total = torch.zeros((), device=input.device)
    for y, a in enumerate((0.25, 0.5, 0.25)):
        for x, b in enumerate((0.25, 0.5, 0.25)):
            total = total + a * b * around[:, :, y : height + y : stride, x : width + x : stride]
    return total.to(input.dtype)


class BlurConv2d(nn.Conv2d):
    """A strided convolution whose input is first blurred by the 3×3 kernel [1, 2, 1] ⊗ [1, 2, 1] / 16, zeros outside.

    Zhang, "Making Convolutional Networks Shift-Invariant Again" (arXiv:1904.11486), in the form of FFCV and Composer,
    which blur before the convolution. The kernel is a constant, not part of the state dict.
    """

    blur: torch.Tensor

    @classmethod
    def of(cls, conv: nn.Conv2d) -> BlurConv2d:
        """The same convolution, sharing its parameters, preceded by the blur."""
        new = cls(
            conv.in_channels,
            conv.out_channels,
            conv.kernel_size,  # type: ignore[arg-type]
            stride=conv.stride,  # type: ignore[arg-type]
            padding=conv.padding,  # type: ignore[arg-type]
            bias=conv.bias is not None,
            device="meta",
        )
        new.weight, new.bias = conv.weight, conv.bias
        new.register_buffer("blur", _kernel(conv.in_channels, conv.weight), persistent=False)
        return new

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """[B, C, H, W] to [B, C', H / stride, W / stride]."""
        if self.kernel_size == (1, 1):
            # a 1×1 kernel reads only every stride-th pixel of the blurred image, so only those are computed
            return functional.conv2d(blurred(input, self.blur, self.stride[0]), self.weight, self.bias)
        return super().forward(blurred(input, self.blur, 1))


class BlurMaxPool2d(nn.MaxPool2d):
    """A strided max-pool: maxima at every pixel, blurred, then subsampled by the stride."""

    blur: torch.Tensor
    stride: int

    @classmethod
    def of(cls, pool: nn.MaxPool2d, channels: int, like: torch.Tensor) -> BlurMaxPool2d:
        """The same pool for `channels` channels, its kernel of the type and on the device of `like`."""
        new = cls(pool.kernel_size, stride=pool.stride, padding=pool.padding)
        new.register_buffer("blur", _kernel(channels, like), persistent=False)
        return new

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """[B, C, H, W] to [B, C, H / stride, W / stride]."""
        maxima = functional.max_pool2d(input, self.kernel_size, stride=1, padding=self.padding)
        return blurred(maxima, self.blur, self.stride)


def build_model(model: ModelRecipe, classes: int) -> nn.Module:
    """A ResNet for [B, 3, H, W] images and `classes` outputs, drawn from torch's global generator on the CPU.

    With `blurpool` the input of each convolution with stride above 1 and at least 16 input channels is blurred, as in
    FFCV's and Composer's recipes: all but the first one. The max-pool is unchanged as in FFCV, unless `blurpool_max`.
    """
    if model.arch not in ARCHITECTURES:
        raise UsageError(f"no model is called {printable(model.arch)}", hint=f"one of {', '.join(ARCHITECTURES)}")
    assert classes >= 1
    network = ResNet(model.arch, classes, zero_init_residual=model.zero_init_residual)
    _draw_again(network, model)
    if model.blurpool:
        _blur_strided_convolutions(network)
    if model.blurpool_max:
        first: Any = network.conv1
        network.maxpool = BlurMaxPool2d.of(network.maxpool, first.out_channels, first.weight)
    if model.drop_path:
        _drop_paths(network, model.drop_path)
    return network


def _drop_paths(network: nn.Module, most: float) -> None:
    """Let images skip residual branches while the network trains: block i of n with probability most × i / (n - 1).

    Done by a hook on each branch's last batch norm, so that the parameters keep torchvision's names.
    """
    branches: list[Any] = [m.bn3 if hasattr(m, "bn3") else m.bn2 for m in network.modules() if hasattr(m, "bn2")]
    for i, branch in enumerate(branches):
        p = most * i / (len(branches) - 1)

        def drop(module: nn.Module, args: Any, output: torch.Tensor, p: float = p) -> torch.Tensor:
            return _with_some_dropped(output, p) if p and module.training else output

        branch.register_forward_hook(drop)


def _with_some_dropped(images: torch.Tensor, p: float) -> torch.Tensor:
    """`[B, C, H, W]`, each 0 with probability `p` < 1, else divided by 1 - p (Huang et al. 2016, arXiv:1603.09382)."""
    kept = images.new_empty((len(images), 1, 1, 1)).bernoulli_(1 - p)
    return images * kept.div_(1 - p)


@torch.no_grad()
def _draw_again(network: nn.Module, model: ModelRecipe) -> None:
    """Initialisation that differs from torchvision's model; zeros of `zero_init_residual` stay."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and model.conv_init == "fan-in":
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        elif isinstance(module, nn.BatchNorm2d) and model.norm_init == "uniform" and module.weight.any():
            nn.init.uniform_(module.weight)
        elif isinstance(module, nn.Linear) and model.head_init == "normal":
            nn.init.normal_(module.weight, std=0.01)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear) and model.head_init == "fan-in":
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if isinstance(module, nn.Linear) and model.head_bias == "-log-classes":
            nn.init.constant_(module.bias, -math.log(module.out_features))


def _blur_strided_convolutions(network: nn.Module) -> None:
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.Conv2d) and max(child.stride) > 1 and child.in_channels >= _MIN_BLUR_CHANNELS:
                setattr(parent, name, BlurConv2d.of(child))


HEAD = "fc"
"""The name of the last layer; the rest is the backbone."""


def parameter_groups(
    network: nn.Module, weight_decay: float, no_decay: str, backbone_lr: float = 1.0
) -> list[dict[str, Any]]:
    """The parameters for the optimizer, with and without weight decay; `lr_factor` multiplies a group's rate.

    `no_decay` says what is excluded: "nothing", "norm" (weights and biases of normalisation layers), "named-bn" (those
    with bn in their names, unlike the shortcuts'), or "norm-and-bias" (every bias too). The factor is `backbone_lr` for
    all but the last layer.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for path, module in network.named_modules():
        is_norm = isinstance(module, nn.modules.batchnorm._NormBase | nn.GroupNorm | nn.LayerNorm)
        factor = 1.0 if path == HEAD else backbone_lr
        for name, parameter in module.named_parameters(recurse=False):
            spared = {
                "nothing": False,
                "norm": is_norm,
                "named-bn": "bn" in path,
                "norm-and-bias": is_norm or name == "bias",
            }
            groups.setdefault((0.0 if spared[no_decay] else weight_decay, factor), []).append(parameter)
    # with decay first: the order of parameters affects a result's bits
    order = sorted(groups, key=lambda key: (-key[0], -key[1]))
    return [{"params": groups[k], "weight_decay": k[0], "lr_factor": k[1]} for k in order]
