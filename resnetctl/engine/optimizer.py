"""The optimizer of a recipe: which parameters it updates with which decay, and the tensors that it keeps.

All that it keeps exists from the start, as zeros: a checkpoint holds the same tensors after every step, and a fused
step that the loss scaler skips cannot leave memory behind that nobody has written to.
"""

from __future__ import annotations

import torch
from torch import nn

from resnetctl.model.resnet import parameter_groups
from resnetctl.recipe import OptimizerRecipe


def build_optimizer(model: nn.Module, recipe: OptimizerRecipe, device: torch.device) -> torch.optim.Optimizer:
    """The recipe's optimizer over the parameters of `model`; its rate is set before each step, by `set_rate`."""
    optimizer = torch.optim.SGD(
        parameter_groups(model, recipe.weight_decay, recipe.no_decay),
        lr=0.0,
        momentum=recipe.momentum,
        nesterov=recipe.nesterov,
        fused=device.type in ("cpu", "cuda"),
    )
    kept = ("momentum_buffer",) if recipe.momentum else ()
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            optimizer.state[parameter] = {name: torch.zeros_like(parameter) for name in kept}
    return optimizer


def set_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Let the next step take the learning rate `lr`."""
    for group in optimizer.param_groups:
        group["lr"] = lr


def optimizer_tensors(optimizer: torch.optim.Optimizer, model: nn.Module) -> dict[str, torch.Tensor]:
    """What the optimizer keeps, as `<name in the optimizer>.<parameter>`; writing into them restores it."""
    return {
        f"{kept}.{name}": tensor
        for name, parameter in model.named_parameters()
        for kept, tensor in optimizer.state.get(parameter, {}).items()
    }
