"""Batches that a device decodes hold the samples, crops and flips of those that workers decode."""

import io

import pytest
import torch

from resnetctl.data.batches.encoded import EncodedBatches, load_train
from resnetctl.data.batches.loader import load
from resnetctl.data.batches.train import TrainBatches, TrainView
from resnetctl.data.index import index_path
from resnetctl.data.prepare import prepare
from resnetctl.recipe import DataRecipe, TrainRecipe
from tests.fixtures.photos import jpeg, tile

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    """Photographs, among them a gray one, a PNG, one with a turned EXIF, and one that cannot be read."""
    root = tmp_path_factory.mktemp("encoded")
    for split, count in (("train", 12), ("val", 2)):
        for i in range(count):
            path = root / "photos" / split / f"c{i % 2}" / f"{i}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            picture = tile(i, 90 + 7 * i, 140 - 5 * i)
            data = jpeg(picture.convert("L") if i == 3 else picture)
            if i == 4:
                file = io.BytesIO()
                picture.save(file, "PNG")
                data = file.getvalue()
            if i == 5:
                exif = picture.getexif()
                exif[0x0112] = 6
                data = jpeg(picture, exif=exif)
            if i == 6:
                data = data[:-300]
            path.write_bytes(data)
    prepare(root / "data", root / "photos", "folder")
    return index_path(root / "data", "train")


def view(index, decoder: str) -> TrainView:
    return TrainView(
        index=index,
        data=DataRecipe(train_size=64),
        train=TrainRecipe(epochs=2, global_batch=8, seed=3),
        micro_batch=4,
        decoder=decoder,
    )


@pytest.mark.parametrize("workers", [0, 2])
def test_the_batches_differ_by_their_resizing_alone(index, workers):
    ours = list(load(TrainBatches(view(index, "torchcodec")), range(6), workers=workers, pin=False))
    theirs = list(load_train(TrainBatches(view(index, "cuda")), range(6), device=CPU, workers=workers))
    assert len(ours) == len(theirs) == 6
    for a, b in zip(ours, theirs, strict=True):
        assert torch.equal(a.labels, b.labels)
        assert torch.equal(a.unreadable, b.unreadable)
        assert a.images.shape == b.images.shape
        assert (a.images.int() - b.images.int()).abs().max() <= 1


def test_what_the_device_does_not_take_is_made_by_the_worker(index):
    made = sum(len(EncodedBatches(view(index, "cuda"))[item].made) for item in range(3))
    assert made == 3, "of 12: the gray one, the PNG, and another in the place of the unreadable one"


def test_other_decoders_are_loaded_as_ever(index):
    (batch,) = load_train(TrainBatches(view(index, "torchcodec")), range(1), device=CPU, workers=0)
    assert torch.equal(batch.images, TrainBatches(view(index, "torchcodec"))[0].images)
