"""Where uint8 pictures become what the model eats: on the device, after the copy."""

from __future__ import annotations

import torch


class Normalise:
    """Subtracts each channel's mean and divides by its standard deviation, both in units of [0, 1]."""

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...], device: torch.device) -> None:
        self.mean = torch.tensor(mean, device=device).mul(255).view(1, 3, 1, 1)
        self.scale = torch.tensor(std, device=device).mul(255).reciprocal().view(1, 3, 1, 1)

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """`[B, 3, H, W] uint8` to `[B, 3, H, W] float32`, in the same memory format."""
        return (images.float() - self.mean) * self.scale
