"""The loaders that are compared, each in a process of its own: RandomResizedCrop(224), flip, batches of 128, 2 workers.

`python -m tests.benchmarks.loaders NAME PATH SECONDS [trivial|rand]` measures one and prints JSON; with the last word
each loader augments too, as its own library does: TrivialAugmentWide of torchvision; RandAugment of timm
(rand-m7-mstd0.5-inc1, as ours) or of torchvision (2 operations of strength 9).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from tests.benchmarks.meter import rate, two_cores

BATCH, WORKERS, SIZE = 128, 2, 224
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def _resnetctl(path: Path, decoder: str, augment: str) -> Iterator[Any]:
    from resnetctl.data.batches.loader import load
    from resnetctl.data.batches.train import TrainBatches, TrainView
    from resnetctl.recipe import DataRecipe, TrainRecipe

    view = TrainView(
        index=path,
        data=DataRecipe(
            train_size=SIZE, augment={"trivial": "trivial-augment-wide", "rand": "rand-augment"}.get(augment, "none")
        ),
        train=TrainRecipe(epochs=1000, global_batch=BATCH),
        micro_batch=BATCH,
        decoder=decoder,
    )
    return load(TrainBatches(view), range(1 << 30), workers=WORKERS, pin=False)


def resnetctl(path: Path, augment: str) -> Iterator[Any]:
    """Ours, with TorchCodec; `path` is an index."""
    return _resnetctl(path, "torchcodec", augment)


def resnetctl_nvimgcodec(path: Path, augment: str) -> Iterator[Any]:
    """Ours, with the optional decoder."""
    return _resnetctl(path, "nvimgcodec", augment)


def _folder(
    path: Path, transform: Any, batch: int = BATCH, workers: int = WORKERS, pin: bool = False, **options: Any
) -> Iterator[Any]:
    from torch.utils.data import DataLoader, RandomSampler
    from torchvision.datasets import ImageFolder

    data = ImageFolder(path / "train", transform, **options)
    endless = RandomSampler(data, num_samples=1000 * len(data))
    return iter(DataLoader(data, batch, sampler=endless, num_workers=workers, drop_last=True, pin_memory=pin))


def _torchvision(augment: str) -> list[Any]:
    from torchvision.transforms import v2 as t

    bilinear = t.InterpolationMode.BILINEAR
    kinds = {"trivial": t.TrivialAugmentWide, "rand": t.RandAugment}
    return [kinds[augment](interpolation=bilinear)] if augment else []


def one_page(path: Path, augment: str) -> Iterator[Any]:
    """The one-page script: ImageFolder, PIL, ToTensor, normalised to fp32 in the workers."""
    from torchvision import transforms as t

    crop = [t.RandomResizedCrop(SIZE), t.RandomHorizontalFlip()]
    steps = [*crop, *_torchvision(augment), t.ToTensor(), t.Normalize(MEAN, STD)]
    return _folder(path, t.Compose(steps))


def torchvision_reference(path: Path, augment: str, **options: Any) -> Iterator[Any]:
    """references/classification of torchvision, its default backend PIL: ClassificationPresetTrain's steps."""
    from torchvision.transforms import v2 as t

    steps = [
        t.RandomResizedCrop(SIZE, interpolation=t.InterpolationMode.BILINEAR, antialias=True),
        t.RandomHorizontalFlip(0.5),
        *_torchvision(augment),
        t.PILToTensor(),
        t.ToDtype(torch.float, scale=True),
        t.Normalize(MEAN, STD),
        t.ToPureTensor(),
    ]
    return _folder(path, t.Compose(steps), **options)


def torchvision_tensors(path: Path, augment: str) -> Iterator[Any]:
    """torchvision's transforms on tensors, decoded by torchvision.io, left in uint8."""
    from torchvision.io import ImageReadMode, decode_image
    from torchvision.transforms import v2 as t

    steps = [t.RandomResizedCrop(SIZE, antialias=True), t.RandomHorizontalFlip(0.5), *_torchvision(augment)]
    return _folder(path, t.Compose(steps), loader=lambda file: decode_image(file, ImageReadMode.RGB))


def timm(
    path: Path,
    augment: str,
    batch: int = BATCH,
    workers: int = WORKERS,
    device: torch.device = torch.device("cpu"),  # noqa: B008
) -> Iterator[Any]:
    """timm.data.create_loader as timm's train.py calls it, colour jitter off so that the work is the same."""
    assert augment != "trivial"  # which timm has not
    from timm.data import create_dataset, create_loader

    loader = create_loader(
        create_dataset("", root=str(path / "train"), is_training=True),
        input_size=(3, SIZE, SIZE),
        batch_size=batch,
        is_training=True,
        color_jitter=0.0,
        auto_augment="rand-m7-mstd0.5-inc1" if augment else None,
        interpolation="bilinear",
        mean=MEAN,
        std=STD,
        num_workers=workers,
        pin_memory=False,
        device=device,
        use_multi_epochs_loader=True,
    )
    return (batch for _ in range(1000) for batch in loader)


PEERS: dict[str, Callable[[Path, str], Iterator[Any]]] = {
    f.__name__.replace("_", "-"): f
    for f in (resnetctl, resnetctl_nvimgcodec, one_page, torchvision_reference, torchvision_tensors, timm)
}


if __name__ == "__main__":
    two_cores()
    name, where, seconds, *augment = sys.argv[1:]
    print(json.dumps(rate(PEERS[name](Path(where), "".join(augment)), BATCH, float(seconds))))
