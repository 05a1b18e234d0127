"""FFCV on the same pictures, run by the Python of an environment that has FFCV and numpy < 2.

`ffcv_loader.py write FOLDER FILE` and `ffcv_loader.py read FILE SECONDS`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from meter import rate, two_cores

BATCH, WORKERS, SIZE = 128, 2, 224


def write(folder: Path, file: Path) -> None:
    from ffcv.fields import IntField, RGBImageField
    from ffcv.writer import DatasetWriter
    from torchvision.datasets import ImageFolder

    image = RGBImageField(write_mode="jpg", max_resolution=500, jpeg_quality=92)
    part = file.with_suffix(".part")
    DatasetWriter(str(part), {"image": image, "label": IntField()}, num_workers=2).from_indexed_dataset(
        ImageFolder(folder)
    )
    part.rename(file)


def read(file: Path) -> Any:
    from ffcv.fields.decoders import IntDecoder, RandomResizedCropRGBImageDecoder
    from ffcv.loader import Loader, OrderOption
    from ffcv.transforms import RandomHorizontalFlip, Squeeze, ToTensor, ToTorchImage

    image = [RandomResizedCropRGBImageDecoder((SIZE, SIZE)), RandomHorizontalFlip(), ToTensor(), ToTorchImage()]
    pipelines = {"image": image, "label": [IntDecoder(), ToTensor(), Squeeze()]}
    loader = Loader(str(file), BATCH, WORKERS, os_cache=True, order=OrderOption.RANDOM, pipelines=pipelines)
    return (batch for _ in range(1000) for batch in loader)


if __name__ == "__main__":
    two_cores()
    if sys.argv[1] == "write":
        write(Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        print(json.dumps(rate(read(Path(sys.argv[2])), BATCH, float(sys.argv[3]))))
