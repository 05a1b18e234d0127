"""JPEGs decoded, cropped and resized on a GPU, a batch per call: for machines with few CPU cores per GPU.

nvJPEG, called through TorchCodec, has its own inverse transform and chroma interpolation: an image differs from the
other decoders' by less than 2 of 255 on average, the bound of torchvision's own tests. Resizing is in float32 here and
in 16 bits on uint8 elsewhere: at most 1 of 255 more (bicubic: 13 at single points of 300 crops, mean 0.16). On a CPU
the same function decodes with TorchCodec as elsewhere, and only resizes in float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.functional import interpolate

from resnetctl.data.images.decode import decode
from resnetctl.errors import DataError


def decode_crops(
    files: Sequence[torch.Tensor],
    boxes: Sequence[Sequence[int]],
    flips: Sequence[bool],
    *,
    size: int,
    interpolation: str,
    device: torch.device,
) -> torch.Tensor:
    """Box (top, left, height, width) of each JPEG, mirrored if its flip is set: `[K, 3, size, size] uint8`.

    The result is on `device`, channels last. `files` are bytes on the CPU, `[N] uint8`, without an EXIF orientation.
    Raises DataError if one cannot be read.
    """
    images = torch.empty((len(files), 3, size, size), dtype=torch.uint8, device=device)
    images = images.contiguous(memory_format=torch.channels_last)
    for n, (pixels, box, flip) in enumerate(zip(_decode(files, device), boxes, flips, strict=True)):
        top, left, height, width = box
        crop = pixels[None, :, top : top + height, left : left + width].float()
        crop = interpolate(crop, (size, size), mode=interpolation, antialias=True, align_corners=False)
        images[n] = (crop.flip(3) if flip else crop)[0].round_().clamp_(0, 255)
    return images


def _decode(files: Sequence[torch.Tensor], device: torch.device) -> list[torch.Tensor]:
    from torchcodec.decoders import decode_jpeg

    if not files:
        return []
    try:
        pixels: Any = decode_jpeg(list(files), mode="RGB", device=device)
        return list(pixels)
    except RuntimeError:  # a single unsupported file fails the whole batch
        pass
    try:
        return [decode(file.numpy().tobytes()).to(device) for file in files]
    except DataError as error:
        raise DataError(
            f"an image cannot be read, and decoding on the GPU has no substitutes: {error.message}",
            hint="resnetctl verify finds and excludes it; or --set data.decoder=auto",
        ) from error
