"""The optimizer of a recipe, and the tensors that it keeps.

Its state exists from the start, as zeros: a checkpoint has the same tensors after every step, and a fused step skipped
by the loss scaler cannot leave uninitialised memory behind.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from resnetctl.errors import needs_package
from resnetctl.model.resnet import parameter_groups
from resnetctl.recipe import Recipe, effective_lr


class FusedSGD:
    """torch.optim.SGD(fused=True) through the same kernel, with the same bits.

    The classes of torch.optim load torch's compiler, which takes a second of a run's start.
    """

    _step_supports_amp_scaling = True  # the loss scaler sets grad_scale and found_inf for the kernel

    def __init__(self, groups: list[dict[str, Any]], *, momentum: float, nesterov: bool) -> None:
        self.param_groups = [{**group, "lr": 0.0} for group in groups]
        self.momentum, self.nesterov = momentum, nesterov
        self.state: dict[nn.Parameter, dict[str, torch.Tensor]] = {}

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Release the gradients."""
        assert set_to_none
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """m ← momentum × m + g, with the decay in g; w ← w - lr × m, with Nesterov's lr × (g + momentum × m)."""
        for group in self.param_groups:
            moved = [p for p in group["params"] if p.grad is not None]
            if moved:
                torch._fused_sgd_(
                    moved,
                    [p.grad for p in moved],
                    [self.state[p]["momentum_buffer"] for p in moved] if self.momentum else [],
                    weight_decay=group["weight_decay"],
                    momentum=self.momentum,
                    lr=group["lr"],
                    dampening=0.0,
                    nesterov=self.nesterov,
                    maximize=False,
                    is_first_step=False,
                    grad_scale=getattr(self, "grad_scale", None),
                    found_inf=getattr(self, "found_inf", None),
                )


Optimizer = torch.optim.Optimizer | FusedSGD


class DecoupledSGD(torch.optim.SGD):
    """SGD whose weight decay bypasses the momentum: w is first multiplied by 1 - lr / peak × decay.

    As Composer's DecoupledSGDW (Loshchilov & Hutter 2017, arXiv:1711.05101).
    """

    def __init__(self, groups: list[dict[str, Any]], peak: float, **options: Any) -> None:
        decays = [group["weight_decay"] for group in groups]
        super().__init__([{**group, "weight_decay": 0.0} for group in groups], **options)
        self.peak, self.decays = peak, decays

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Decay, then step."""
        for group, decay in zip(self.param_groups, self.decays, strict=True):
            moved = [p for p in group["params"] if p.grad is not None]
            if decay and self.peak and moved:
                torch._foreach_mul_(moved, 1 - group["lr"] / self.peak * decay)
        return super().step(closure)


def build_optimizer(model: nn.Module, recipe: Recipe, device: torch.device) -> Optimizer:
    """The recipe's optimizer over the parameters of `model`; `prepare_step` sets its learning rate before each step."""
    o = recipe.optimizer
    groups = parameter_groups(model, o.weight_decay, o.no_decay, o.backbone_lr)
    fused = device.type in ("cpu", "cuda")
    momentum = {"momentum_buffer": None} if o.momentum else {}
    moments = {"exp_avg": None, "exp_avg_sq": None}
    optimizer: Optimizer
    match o.name:
        case "sgd":
            if fused:
                return _with_zeros(FusedSGD(groups, momentum=o.momentum, nesterov=o.nesterov), momentum)
            optimizer = torch.optim.SGD(groups, lr=0.0, momentum=o.momentum, nesterov=o.nesterov)
            return _with_zeros(optimizer, momentum)
        case "sgdw":
            peak = effective_lr(recipe)
            optimizer = DecoupledSGD(groups, peak, lr=0.0, momentum=o.momentum, nesterov=o.nesterov)
            return _with_zeros(optimizer, momentum)
        case "adamw":
            optimizer = torch.optim.AdamW(groups, lr=0.0, betas=o.betas, eps=o.eps, fused=fused)
            return _with_zeros(optimizer, {"step": device if fused else torch.device("cpu"), **moments})
        case "lamb":
            optimizer = _lamb()(groups, lr=0.0, betas=o.betas, eps=o.eps)
            return _with_zeros(optimizer, moments)
    raise AssertionError(o.name)


def _lamb() -> Any:
    try:
        from timm.optim.lamb import Lamb
    except ImportError:
        raise needs_package("optimizer.name = lamb", "timm", "timm") from None
    return Lamb


def _with_zeros(optimizer: Optimizer, kept: Mapping[str, torch.device | None]) -> Optimizer:
    """Create the state `kept` for each parameter: a scalar on a device, or a tensor like the parameter."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            optimizer.state[parameter] = {
                name: torch.zeros_like(parameter) if place is None else torch.zeros((), device=place)
                for name, place in kept.items()
            }
    return optimizer


def prepare_step(optimizer: Optimizer, number: int, lr: float) -> None:
    """Make the next step number `number` (from 0), at the learning rate `lr`."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_factor"]
        if "bias_correction" in group:  # LAMB counts its steps there, incrementing first
            group["step"] = torch.tensor(float(number))


def optimizer_tensors(optimizer: Optimizer, model: nn.Module) -> dict[str, torch.Tensor]:
    """The optimizer's state, as `<name in the optimizer>.<parameter>`; writing into the tensors restores it."""
    return {
        f"{kept}.{name}": tensor
        for name, parameter in model.named_parameters()
        for kept, tensor in optimizer.state.get(parameter, {}).items()
    }
