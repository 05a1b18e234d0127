"""Batch norm over the batches of all ranks on the CPU, which torch lacks."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import nn


def synchronise_norms(model: nn.Module, device: torch.device) -> nn.Module:
    """`model` with its batch norms synchronised over the ranks: by torch on a GPU, by ours on the CPU."""
    if device.type != "cpu":
        return nn.SyncBatchNorm.convert_sync_batchnorm(model)
    for module in model.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = _SyncBatchNorm  # the same parameters and buffers
    return model


class _SyncBatchNorm(nn.BatchNorm2d):
    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """As BatchNorm2d on the batches of all ranks together, all of one size; `[B, C, H, W]`, any type."""
        if not self.training:
            return super().forward(input)
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        ranks = dist.get_world_size()
        count = ranks * input.numel() // input.shape[1]
        x = input.float()
        mean = _Sum.apply(x.mean((0, 2, 3), keepdim=True)) / ranks
        centred = x - mean
        variance = _Sum.apply(centred.square().mean((0, 2, 3), keepdim=True)) / ranks
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean.flatten(), self.momentum)
            self.running_var.lerp_(variance.flatten() * (count / (count - 1)), self.momentum)
        scale = self.weight.view(1, -1, 1, 1) * (variance + self.eps).rsqrt()
        return (centred * scale + self.bias.view(1, -1, 1, 1)).to(input.dtype)


class _Sum(torch.autograd.Function):
    """The sum over all ranks; each rank's loss depends on each rank's part, so gradients are summed as well."""

    @staticmethod
    def forward(ctx: Any, part: torch.Tensor) -> torch.Tensor:
        total = part.contiguous().clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total
