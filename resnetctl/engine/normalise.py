"""Converts uint8 images to the model's input, on the device, after the copy."""

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

    def undo(self, images: torch.Tensor) -> torch.Tensor:
        """Back to `[B, 3, H, W] uint8`, rounded."""
        return (images / self.scale + self.mean).round().clamp(0, 255).to(torch.uint8)


def erase(images: torch.Tensor, boxes: torch.Tensor) -> None:
    """Set a box of each of `[B, 3, H, W] float32` normalised images to 0, in place: the mean colour.

    `boxes` are `[B, 4] int64` on the same device: top, left, height, width, which may be 0. No uint8 value is exactly
    the mean, so this follows normalisation, as in torchvision.
    """
    top, left, height, width = boxes[:, :, None].unbind(1)
    y, x = (torch.arange(n, device=boxes.device) for n in images.shape[2:])
    rows, columns = (y >= top) & (y < top + height), (x >= left) & (x < left + width)
    images.masked_fill_((rows[:, :, None] & columns[:, None])[:, None], 0.0)
