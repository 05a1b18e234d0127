"""Crops and flips: torchvision's distribution, always inside, and each sample's own whoever else is in the batch."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torchvision.transforms import RandomResizedCrop, v2

from resnetctl.data.batches.augment import draw, draw_erased
from resnetctl.data.batches.order import Samples

SCALE, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)
N = 100_000


def once(epoch, sample):
    return Samples(np.asarray(epoch), np.asarray(sample), np.zeros(len(sample), np.int64))


def draws(count, height, width, *, seed=0, epoch=0, scale=SCALE, ratio=RATIO, hflip=0.5):
    sample = np.arange(count)
    sizes = np.full(count, height), np.full(count, width)
    return draw(seed, once(np.full(count, epoch), sample), *sizes, scale=scale, ratio=ratio, hflip=hflip)


def torchvision_boxes(count, height, width, scale=SCALE, ratio=RATIO):
    image = torch.empty(3, height, width, dtype=torch.uint8)
    torch.manual_seed(0)
    return np.array([RandomResizedCrop.get_params(image, list(scale), list(ratio)) for _ in range(count)])


@pytest.mark.parametrize(
    ("height", "width", "scale"),
    [(375, 500, SCALE), (120, 500, (0.08, 1.0)), (300, 300, (0.35, 1.0))],  # the second often needs several tries
)
def test_boxes_are_distributed_as_torchvisions(height, width, scale):
    ours = draws(N, height, width, scale=scale).box
    theirs = torchvision_boxes(N // 4, height, width, scale)
    for name, a, b in zip(("top", "left", "height", "width"), ours.T, theirs.T, strict=True):
        assert stats.ks_2samp(a, b).pvalue > 0.001, name
    area, aspect = (x[:, 2] * x[:, 3] for x in (ours, theirs)), (x[:, 3] / x[:, 2] for x in (ours, theirs))
    assert stats.ks_2samp(*area).pvalue > 0.001
    assert stats.ks_2samp(*aspect).pvalue > 0.001


def test_corners_of_the_picture_are_reached():
    box = draws(N, 8, 8, scale=(0.2, 1.0)).box
    for start, length in ((box[:, 0], box[:, 2]), (box[:, 1], box[:, 3])):
        start, length = start[length < 8], length[length < 8]
        assert start.min() == 0
        assert (start + length).max() == 8


@given(
    st.integers(0, 2**32),
    st.integers(1, 3000),
    st.integers(1, 3000),
    st.floats(0.001, 1.0),
    st.floats(0.001, 1.0),
    st.floats(0.1, 4.0),
    st.floats(0.1, 4.0),
)
@settings(deadline=None)
def test_boxes_lie_inside(seed, height, width, s1, s2, r1, r2):
    scale, ratio = (min(s1, s2), max(s1, s2)), (min(r1, r2), max(r1, r2))
    top, left, h, w = draws(40, height, width, seed=seed, scale=scale, ratio=ratio).box.T
    assert (h >= 1).all()
    assert (w >= 1).all()
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + h <= height).all()
    assert (left + w <= width).all()


@pytest.mark.parametrize(("height", "width"), [(10, 3000), (3000, 10), (11, 3001), (3, 500), (997, 13), (1, 7), (7, 1)])
def test_where_no_box_fits_the_centre_is_torchvisions(height, width):
    scale = (0.9, 1.0)  # so much of so long a picture has no box of this shape
    ours, theirs = draws(3, height, width, scale=scale).box, torchvision_boxes(1, height, width, scale)
    assert ours.tolist() == theirs.tolist() * 3


@pytest.mark.parametrize(("height", "width"), [(2, 2), (4, 5), (6, 3)])
def test_the_boxes_of_a_small_picture_have_torchvisions_sizes(height, width):
    """From a single pixel to the whole side."""
    ours, theirs = draws(N, height, width).box, torchvision_boxes(N // 10, height, width)
    assert {*map(tuple, ours[:, 2:].tolist())} == {*map(tuple, theirs[:, 2:].tolist())}


@pytest.mark.parametrize(("height", "width"), [(300, 320), (320, 300), (300, 300)])
def test_where_the_whole_picture_is_asked_for_it_is_taken(height, width):
    """No box of another shape has its area, and its own shape is within the bounds."""
    box = draws(50, height, width, scale=(1.0, 1.0), ratio=RATIO).box
    assert box.tolist() == [[0, 0, height, width]] * 50


@pytest.mark.parametrize(
    ("height", "width", "ratio", "box"),
    [(9, 1, (3.0, 4.0), [4, 0, 1, 1]), (1, 9, (0.1, 0.2), [0, 4, 1, 1])],
)
def test_a_box_has_at_least_one_pixel(height, width, ratio, box):
    assert draws(3, height, width, scale=(0.9, 1.0), ratio=ratio).box.tolist() == [box] * 3


def test_a_sample_does_not_see_its_neighbours():
    rng = np.random.default_rng(1)
    samples = Samples(rng.integers(0, 3, 64), rng.permutation(1000)[:64], rng.integers(0, 4, 64))
    height, width = rng.integers(5, 900, 64), rng.integers(5, 900, 64)
    options = {"scale": SCALE, "ratio": RATIO, "hflip": 0.5}
    whole, erased = draw(9, samples, height, width, **options), draw_erased(9, samples, 224, 0.5)
    for n in range(64):
        one = slice(n, n + 1)
        itself = samples.only(one)
        alone = draw(9, itself, height[one], width[one], **options)
        assert alone.box[0].tolist() == whole.box[n].tolist()
        assert alone.flip[0] == whole.flip[n]
        assert draw_erased(9, itself, 224, 0.5).tolist() == [erased[n].tolist()]


def test_epoch_and_seed_change_the_draws():
    one, other, third = draws(50, 375, 500), draws(50, 375, 500, epoch=1), draws(50, 375, 500, seed=1)
    for a, b in ((one, other), (one, third), (other, third)):
        assert (a.box != b.box).any(1).mean() > 0.9
        assert 0.2 < (a.flip != b.flip).mean() < 0.8


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 1.0])
def test_flips_have_their_share(share):
    flip = draws(N, 30, 30, hflip=share).flip
    assert stats.binomtest(int(flip.sum()), N, share).pvalue > 0.001
    if 0 < share < 1:  # a flip tells nothing of the box
        box = draws(N, 30, 30, hflip=share).box
        assert abs(np.corrcoef(flip, box[:, 1])[0, 1]) < 0.025


def test_our_boxes_never_change():
    """Else a resumed run would go on with other crops than it began with."""
    epoch, sample = np.array([0, 1, 2**33, 5]), np.array([0, 7, 1_281_166, 3])
    height, width = np.array([375, 500, 20, 10]), np.array([500, 375, 30, 3000])
    drawn = draw(42, once(epoch, sample), height, width, scale=SCALE, ratio=RATIO, hflip=0.5)
    assert drawn.box.tolist() == [[100, 99, 254, 335], [258, 124, 172, 156], [1, 8, 17, 16], [0, 1493, 10, 13]]
    assert drawn.flip.tolist() == [True, True, True, False]
    assert (drawn.box.dtype, drawn.flip.dtype) == (np.int64, bool)
    again = Samples(epoch, sample, np.array([1, 1, 2, 3]))
    drawn = draw(42, again, height, width, scale=SCALE, ratio=RATIO, hflip=0.5)
    assert drawn.box.tolist() == [[48, 195, 324, 259], [11, 6, 394, 360], [0, 8, 17, 14], [0, 1493, 10, 13]]
    assert draw_erased(42, again, 224, 0.7).dtype == np.int64
    assert draw_erased(42, again, 224, 0.7).tolist() == [
        [8, 187, 103, 34],
        [29, 69, 154, 107],
        [63, 17, 75, 189],
        [0, 0, 0, 0],
    ]


def torchvision_erased(count, size):
    torch.manual_seed(0)
    erase, image = v2.RandomErasing(1.0), torch.empty(3, size, size)
    made = [erase.make_params([image]) for _ in range(count)]
    return np.array([[p[k] for k in ("i", "j", "h", "w")] if p["v"] is not None else [0] * 4 for p in made])


@pytest.mark.parametrize("size", [224, 33])
def test_what_is_erased_is_distributed_as_torchvisions(size):
    samples = once(np.zeros(N, np.int64), np.arange(N))
    ours, theirs = draw_erased(0, samples, size, 1.0), torchvision_erased(N // 4, size)
    for name, a, b in zip(("top", "left", "height", "width"), ours.T, theirs.T, strict=True):
        assert stats.ks_2samp(a, b).pvalue > 0.001, name
    assert stats.ks_2samp(ours[:, 2] * ours[:, 3], theirs[:, 2] * theirs[:, 3]).pvalue > 0.001


def test_a_side_is_never_erased_whole():
    """Though 0.33 × 3.3 > 1, as with torchvision."""
    ours, theirs = draw_erased(0, once(np.zeros(N, np.int64), np.arange(N)), 6, 1.0), torchvision_erased(N // 10, 6)
    assert ours[:, 2:].max(0).tolist() == theirs[:, 2:].max(0).tolist() == [5, 5]


@pytest.mark.parametrize("probability", [0.0, 0.1, 1.0])
def test_as_many_are_erased_as_asked(probability):
    samples = once(np.zeros(N, np.int64), np.arange(N))
    box = draw_erased(3, samples, 224, probability)
    assert stats.binomtest(int((box[:, 2] > 0).sum()), N, probability).pvalue > 0.001
    assert (box[:, 0] + box[:, 2] <= 224).all()
    assert (box[:, 1] + box[:, 3] <= 224).all()
    assert not box[box[:, 2] == 0].any()
