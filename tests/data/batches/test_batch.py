"""The memory of batches: used again when nobody looks at a batch any more, and never before."""

import gc
import multiprocessing

import pytest
import torch
from torch.utils.data import Dataset

from resnetctl.data.batches.batch import Batch, empty_images
from resnetctl.data.batches.loader import load


class Numbered(Dataset[Batch]):
    """Batch `item` has that number in all its pixels, and the address of its memory as a label."""

    def __init__(self, sizes: tuple[int, ...] = (32,)) -> None:
        self.sizes = sizes

    def __getitem__(self, item: int) -> Batch:
        images = empty_images(4, self.sizes[item * len(self.sizes) // 40])
        images[:] = item
        return Batch(images, torch.tensor([images.data_ptr()]), torch.zeros(0, dtype=torch.int64))


def numbers(batches: list[torch.Tensor]) -> list[list[int]]:
    return [images.unique().tolist() for images in batches]


def test_a_worker_uses_the_memory_of_earlier_batches_again():
    places = set()
    for item, batch in enumerate(load(Numbered(), range(40), workers=1, pin=False)):
        assert (batch.images == item).all()
        assert batch.images.is_contiguous(memory_format=torch.channels_last)
        places.add(int(batch.labels))
    assert len(places) <= 4


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_batches_that_are_kept_stay_as_they_are(workers):
    batches = [batch.images for batch in load(Numbered(), range(40), workers=workers, pin=False)]
    assert numbers(batches) == [[item] for item in range(40)]


@pytest.mark.parametrize(
    "view", [lambda images: images[1:2, :, 3:9], lambda images: images.permute(0, 2, 3, 1).numpy()]
)
def test_a_part_of_a_batch_keeps_all_of_it(view):
    """Whatever looks at the memory: a view of a tensor of which nothing else is left, or an array."""
    parts = [view(batch.images) for batch in load(Numbered(), range(40), workers=2, pin=False)]
    gc.collect()
    assert [set(part.reshape(-1).tolist()) for part in parts] == [{item} for item in range(40)]


def test_memory_of_another_resolution_is_not_used_again():
    for item, batch in enumerate(load(Numbered((32, 48, 32, 64)), range(40), workers=2, pin=False)):
        assert batch.images.shape[2] == (32, 48, 32, 64)[item // 10]
        assert (batch.images == item).all()


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs fork")
def test_a_forked_process_lets_nothing_go():
    """As workers of evaluation are, while training holds a batch."""
    batches = load(Numbered(), range(40), workers=1, pin=False)
    kept = [next(batches).images]
    child = multiprocessing.get_context("fork").Process(target=kept.clear)
    child.start()
    child.join()
    assert child.exitcode == 0
    for _ in range(20):
        next(batches)
    batches.close()
    assert numbers(kept) == [[0]]


def test_memory_of_other_origin_is_not_touched():
    """A batch whose images are not from `empty_images` comes as it is, to its last byte."""

    class Own(Dataset[Batch]):
        def __getitem__(self, item: int) -> Batch:
            images = torch.full((2, 3, 8, 8), item, dtype=torch.uint8)
            return Batch(images, torch.zeros(2, dtype=torch.int64), torch.zeros(0, dtype=torch.int64))

    for item, batch in enumerate(load(Own(), range(1, 9), workers=1, pin=False), 1):
        assert (batch.images == item).all()


@pytest.mark.gpu
def test_pinned_batches_are_copies():
    places, kept = set(), []
    for batch in load(Numbered(), range(40), workers=1, pin=True):
        assert batch.images.is_pinned()
        places.add(int(batch.labels))
        kept.append(batch.images)
    assert numbers(kept) == [[item] for item in range(40)]
    assert len(places) <= 4
