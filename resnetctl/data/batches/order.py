"""The order of samples: a pure function of (seed, epoch, position), the same on every machine and world size.

A run is one long stream of samples: the permutation of epoch 0, then that of epoch 1, and so on. Step s takes its
positions [s·B, (s+1)·B), where B is the global batch. So every batch is full, each sample is seen exactly once an
epoch, epochs may end inside a batch, and a run's position is a single number: its step.

The generator is splitmix64 (Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators"), implemented
here because no library guarantees the same numbers in its next release.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple, TypeVar

import numpy as np

_GAMMA = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1
ORDER, AUGMENT, SUBSTITUTE, SPLIT, OPERATIONS, JITTER, ERASE, MIX = 1, 2, 3, 4, 5, 6, 7, 8
DEVICE = 16
"""The purpose of a hash, so that no two uses share random numbers."""


class Samples(NamedTuple):
    """N samples in stream order; a sample's random draws follow from these three numbers."""

    epoch: np.ndarray
    """`[N] int64`."""
    sample: np.ndarray
    """`[N] int64`: numbers in the index."""
    repetition: np.ndarray
    """`[N] int64`: how often the sample came before in this epoch; 0 without repeated augmentation."""

    def only(self, which: slice | np.ndarray) -> Samples:
        """The samples that `which` selects."""
        return Samples(self.epoch[which], self.sample[which], self.repetition[which])


_Bits = TypeVar("_Bits", int, np.ndarray)


def splitmix64(x: _Bits) -> _Bits:
    """The output function of splitmix64 on a 64-bit number, or on `[...] uint64`."""
    z = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & _MASK
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & _MASK
    return z ^ (z >> 31)


def key(seed: int, *words: int) -> int:
    """One 64-bit number from all bits of a seed and some words."""
    state = seed & _MASK
    for word in words:
        state = splitmix64((state + _GAMMA) & _MASK) ^ (word & _MASK)
    return splitmix64((state + _GAMMA) & _MASK)


def hashes(seed: int, use: int, epoch: int, index: np.ndarray, repetition: int = 0) -> np.ndarray:
    """A 64-bit hash for each sample number in `index [N] int64`, `[N] uint64`."""
    start = np.uint64(key(seed, use, epoch, repetition) if repetition else key(seed, use, epoch))
    return splitmix64(start + (index.astype(np.uint64) + np.uint64(1)) * np.uint64(_GAMMA))


def uniforms(seed: int, use: int, samples: Samples, draws: int) -> np.ndarray:
    """`draws` numbers in [0, 1) for each sample, `[draws, N] float64`; draw j does not depend on `draws`."""
    base = np.empty(len(samples.sample), np.uint64)
    for epoch, repetition in {*zip(samples.epoch.tolist(), samples.repetition.tolist(), strict=True)}:
        here = (samples.epoch == epoch) & (samples.repetition == repetition)
        base[here] = hashes(seed, use, epoch, samples.sample[here], repetition)
    steps = (np.arange(1, draws + 1, dtype=np.uint64) * np.uint64(_GAMMA))[:, None]
    return (splitmix64(base[None, :] + steps) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def sequence(seed: int, *words: int) -> Iterator[float]:
    """An endless sequence of numbers in [0, 1), determined by the seed and the words."""
    state = key(seed, *words)
    while True:
        state = (state + _GAMMA) & _MASK
        yield (splitmix64(state) >> 11) * 2.0**-53


@lru_cache(maxsize=2)  # a batch spans two epochs at most, unless the data set is smaller than the batch
def permutation(seed: int, epoch: int, count: int) -> np.ndarray:
    """The order of one epoch, `[count] int64` (0.2 seconds for 1.28 million)."""
    order = np.argsort(hashes(seed, ORDER, epoch, np.arange(count)), kind="stable")
    order.setflags(write=False)
    return order


def stream(seed: int, count: int, start: int, stop: int, repetitions: int = 1) -> Samples:
    """Positions [start, stop) of the stream.

    With repeated augmentation (Hoffer et al. 2020, arXiv:1901.09335) an epoch is still `count` positions, but of only
    the first count / repetitions samples of its permutation, each `repetitions` times in a row: the order of
    torchvision's RASampler and timm's RepeatAugSampler, over all ranks together.
    """
    epoch, place = np.divmod(np.arange(start, stop, dtype=np.int64), count)
    sample = np.empty_like(place)
    for e in range(start // count, (stop - 1) // count + 1):
        here = epoch == e
        sample[here] = permutation(seed, e, count)[place[here] // repetitions]
    return Samples(epoch, sample, place % repetitions)


def step_samples(seed: int, count: int, step: int, global_batch: int, part: slice, repetitions: int) -> Samples:
    """The samples of a step's global batch that lie in `part` of it.

    With repeated augmentation all first repetitions come before all second ones, and so on: the views of a sample
    rarely meet in one micro-batch, as with the original samplers, which spread them over the ranks, and mixing does
    not pair a sample with itself.
    """
    start = step * global_batch
    if repetitions == 1:
        return stream(seed, count, start + part.start, start + part.stop)
    whole = stream(seed, count, start, start + global_batch, repetitions)
    return whole.only(np.argsort(whole.repetition, kind="stable")[part])


def total_steps(epochs: int, count: int, global_batch: int) -> int:
    """Steps in a run; only the last, incomplete batch of the whole run is dropped."""
    return epochs * count // global_batch


def epoch_end(epoch: int, count: int, global_batch: int) -> int:
    """The number of steps after which `epoch` (from 0) is complete."""
    return -(-(epoch + 1) * count // global_batch)
