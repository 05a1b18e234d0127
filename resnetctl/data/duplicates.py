"""Duplicate images that matter: in both train and val, or in two classes.

Identical files are found by CRC and length, which the indexes hold, and then compared byte by byte. Similar images have
perceptual hashes that differ in at most MOST_DIFFERENT of 64 bits. Hashes are sorted by parts of their bits rather than
compared pairwise, so a million takes seconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from resnetctl.data.images.perceptual import BITS
from resnetctl.data.index import UNKNOWN_CRC, Index
from resnetctl.errors import DataError

MOST_DIFFERENT = 3
"""Bits. Unrelated hashes are this close once in 4 · 10¹⁴ pairs."""
_BANDS = (13, 13, 13, 13, 12)
"""Bits. Three different bits leave at least two of five bands equal."""
_FEWEST_ONES = 16
"""Bits. Half are usually set, except in an image of a single colour, which resembles all others of its kind."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """A split, and what is known of each of its N images."""

    index: Index
    crc32: np.ndarray
    """`[N] int64`; UNKNOWN_CRC for an image that cannot be read."""
    looks: np.ndarray | None = None
    """`[N] uint64`: perceptual hashes; 0: none."""


@dataclass(frozen=True, kw_only=True)
class Duplicates:
    """Images that are identical or look alike."""

    images: tuple[tuple[str, str], ...]
    """Split and name of each."""
    same_bytes: bool
    in_both_splits: bool
    in_two_classes: bool


def find_duplicates(parts: Sequence[Part]) -> list[Duplicates]:
    """Groups of identical images, then groups that look alike if hashes are known; each sorted by name."""
    every = _All(parts)
    same = [every.told(numbers, same_bytes=True) for numbers in every.same_bytes()]
    known = {group.images for group in same}
    alike = [every.told(numbers, same_bytes=False) for numbers in every.alike()]
    return [*sorted(same, key=_place), *sorted((g for g in alike if g.images not in known), key=_place)]


def _place(group: Duplicates) -> tuple[tuple[str, str], ...]:
    return group.images


class _All:
    """The images of all splits, numbered consecutively."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = parts
        self.split = np.concatenate([np.full(len(p.index), n) for n, p in enumerate(parts)])
        self.label = np.concatenate([p.index.label for p in parts])
        self.row = np.concatenate([np.arange(len(p.index)) for p in parts])
        self.size = np.concatenate([p.index.size for p in parts])
        self.crc32 = np.concatenate([p.crc32 for p in parts])

    def told(self, numbers: Sequence[int], *, same_bytes: bool) -> Duplicates:
        """A group, described by its images' names."""
        images = ((self.parts[self.split[n]].index, int(self.row[n])) for n in numbers)
        return Duplicates(
            images=tuple(sorted((index.info.split, index.name(row)) for index, row in images)),
            same_bytes=same_bytes,
            in_both_splits=len(set(self.split[numbers])) > 1,
            in_two_classes=len(set(self.label[numbers])) > 1,
        )

    def matters(self, numbers: np.ndarray) -> bool:
        """Whether a group spans both splits or two classes."""
        return len(set(self.split[numbers])) > 1 or len(set(self.label[numbers])) > 1

    def same_bytes(self) -> Iterator[list[int]]:
        """Groups of identical images that matter."""
        known = np.flatnonzero(self.crc32 != UNKNOWN_CRC)
        for group in _equal(known, self.size[known] << 32 | self.crc32[known]):
            if not self.matters(group):
                continue
            by_content: dict[bytes, list[int]] = {}
            for n in group.tolist():
                try:
                    content = self.parts[self.split[n]].index.read(int(self.row[n]))
                except DataError:
                    continue  # it was there a moment ago
                by_content.setdefault(content, []).append(n)
            yield from (numbers for numbers in by_content.values() if self.matters(np.array(numbers)))

    def alike(self) -> Iterator[list[int]]:
        """Groups of similar images that matter, each image similar to at least one other of its group."""
        if any(p.looks is None for p in self.parts):
            return
        looks = np.concatenate([p.looks for p in self.parts if p.looks is not None])
        known = np.flatnonzero(_ones(looks) >= _FEWEST_ONES)
        different, kind = np.unique(looks[known], return_inverse=True)
        leader = _joined(len(different), near_pairs(different))
        for group in _equal(known, leader[kind]):
            if self.matters(group):
                yield group.tolist()


def near_pairs(hashes: np.ndarray) -> Iterator[tuple[int, int]]:
    """Pairs of positions in `hashes [N] uint64`, all different, whose hashes differ in at most MOST_DIFFERENT bits.

    A pair may come more than once. For each two of the five bands, the hashes are sorted by both, and those that have
    both in common are compared: next to none among a million unrelated hashes.
    """
    ends = np.cumsum(_BANDS).tolist()
    masks = [(1 << end) - (1 << (end - bits)) for end, bits in zip(ends, _BANDS, strict=True)]
    assert ends[-1] == BITS
    for a, b in combinations(masks, 2):
        key = hashes & np.uint64(a | b)
        order = np.argsort(key)
        key, ordered = key[order], hashes[order]
        apart = 1
        first = np.flatnonzero(key[1:] == key[:-1])
        while len(first):
            near = first[_ones(ordered[first] ^ ordered[first + apart]) <= MOST_DIFFERENT]
            yield from zip(order[near].tolist(), order[near + apart].tolist(), strict=True)
            apart += 1
            first = first[first + apart < len(key)]
            first = first[key[first] == key[first + apart]]


def _ones(numbers: np.ndarray) -> np.ndarray:
    """How many bits are set in each of `[N] uint64`."""
    return _ONES[numbers.view(np.uint16).reshape(-1, 4)].sum(1)


_ONES = np.array([n.bit_count() for n in range(1 << 16)], np.int8)


def _equal(numbers: np.ndarray, values: np.ndarray) -> Iterator[np.ndarray]:
    """Groups of two or more `numbers` with equal `values`."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1]))) if len(values) else np.array([], int)
    ends = np.append(starts[1:], len(values))
    for n in np.flatnonzero(ends - starts > 1).tolist():
        yield numbers[order[starts[n] : ends[n]]]


def _joined(count: int, pairs: Iterator[tuple[int, int]]) -> np.ndarray:
    """`[count] int64`: for each number the least one of its connected component in the graph of `pairs`."""
    leader = list(range(count))

    def lead(n: int) -> int:
        while leader[n] != n:
            leader[n] = leader[leader[n]]
            n = leader[n]
        return n

    for a, b in pairs:
        low, high = sorted((lead(a), lead(b)))
        leader[high] = low
    return np.array([lead(n) for n in range(count)], np.int64)
