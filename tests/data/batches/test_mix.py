"""Mixup and cutmix: torchvision's and timm's results under the same parameters, and their distributions."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torchvision.transforms import v2

from resnetctl.data.batches.mix import Mix, draw_mix, mix_images, mix_targets
from resnetctl.recipe import TrainRecipe

N = 100_000
CLASSES, SIZE = 10, 33
STYLES = ("torchvision", "timm")


def draws(count, *, seed=0, size=SIZE, mixup=0.2, cutmix=1.0, style="torchvision"):
    train = TrainRecipe(epochs=1, global_batch=1, seed=seed, mixup_alpha=mixup, cutmix_alpha=cutmix, mix_style=style)
    return [draw_mix(train, step, 0, size) for step in range(count)]


def a_batch(count=8):
    g = torch.Generator().manual_seed(0)
    images = torch.randn(count, 3, SIZE, SIZE, generator=g).contiguous(memory_format=torch.channels_last)
    return images, torch.randint(CLASSES, (count,), generator=g)


@pytest.mark.parametrize("alpha", [0.1, 0.2, 1.0])
def test_shares_of_mixup_are_distributed_as_torchvisions(alpha):
    ours = np.array([m.share for m in draws(N, mixup=alpha, cutmix=0.0)])
    torch.manual_seed(0)
    theirs = v2.MixUp(alpha=alpha, num_classes=CLASSES)._dist.sample((N,)).double().numpy().ravel()
    assert stats.ks_2samp(np.round(ours, 5), np.round(theirs, 5)).pvalue > 0.001  # float32 does not reach 1
    low = ours[ours < 0.5]  # as close to 1, doubles are too far apart
    assert stats.binomtest(len(low), N).pvalue > 0.001
    assert stats.kstest(low, lambda x: 2 * stats.beta(alpha, alpha).cdf(x)).pvalue > 0.001
    assert 0 <= ours.min() < ours.max() <= 1


def torchvision_boxes(count, alpha):
    torch.manual_seed(0)
    cutmix, image = v2.CutMix(alpha=alpha, num_classes=CLASSES), torch.empty(1, 3, SIZE, SIZE)
    params = [cutmix.make_params([image]) for _ in range(count)]
    return np.array([(*[p["box"][n] for n in (1, 0, 3, 2)], p["lam_adjusted"]) for p in params])


def timm_boxes(count, alpha):
    timm = pytest.importorskip("timm.data.mixup")
    np.random.seed(0)
    found = []
    for _ in range(count):
        (top, bottom, left, right), share = timm.cutmix_bbox_and_lam((1, 3, SIZE, SIZE), np.random.beta(alpha, alpha))
        found.append((top, left, bottom, right, share))
    return np.array(found, float)


@pytest.mark.parametrize(("style", "theirs"), [("torchvision", torchvision_boxes), ("timm", timm_boxes)])
@pytest.mark.parametrize("alpha", [0.3, 1.0])
def test_boxes_of_cutmix_are_distributed_as_theirs(style, theirs, alpha):
    ours = np.array([(*m.box, m.share) for m in draws(N, mixup=0.0, cutmix=alpha, style=style)])
    for name, a, b in zip(("top", "left", "bottom", "right", "share"), ours.T, theirs(N // 4, alpha).T, strict=True):
        assert stats.ks_2samp(a, b).pvalue > 0.001, name


@pytest.mark.parametrize("style", STYLES)
def test_a_share_of_cutmix_is_what_is_kept(style):
    for mix in draws(2000, mixup=0.0, style=style):
        top, left, bottom, right = mix.box
        assert 0 <= top <= bottom <= SIZE
        assert 0 <= left <= right <= SIZE
        assert mix.share == 1 - (bottom - top) * (right - left) / SIZE**2


def test_one_or_the_other_comes_half_of_the_time():
    cut = [mix.box is not None for mix in draws(N)]
    assert stats.binomtest(sum(cut), N, 0.5).pvalue > 0.001
    assert abs(np.corrcoef(cut[1:], cut[:-1])[0, 1]) < 0.01
    assert all(mix.box is None for mix in draws(100, cutmix=0.0))
    assert all(mix.box is not None for mix in draws(100, mixup=0.0))
    assert draws(1, mixup=0.0, cutmix=0.0) == [None]


def test_seed_step_and_micro_batch_change_a_draw():
    def share(seed=0, step=5, micro_batch=2):
        train = TrainRecipe(epochs=1, global_batch=1, seed=seed, mixup_alpha=1.0)
        return draw_mix(train, step, micro_batch, SIZE).share

    assert share() == share()
    assert len({share(), share(seed=1), share(step=6), share(micro_batch=3), share(step=2, micro_batch=5)}) == 5


def test_our_draws_never_change():
    """Else a resumed run would go on with other mixtures than it began with."""
    drawn = {style: [(round(m.share, 6), m.box) for m in draws(7, seed=42, size=224, style=style)] for style in STYLES}
    assert drawn == {
        "torchvision": [
            (0.099841, None),
            (8e-06, None),
            (0.852568, None),
            (0.013536, None),
            (0.571907, (0, 45, 120, 224)),
            (0.033094, None),
            (0.685547, (126, 0, 224, 161)),
        ],
        "timm": [
            (0.099841, None),
            (8e-06, None),
            (0.852568, None),
            (0.013536, None),
            (0.568339, (0, 45, 121, 224)),
            (0.033094, None),
            (0.685547, (126, 0, 224, 161)),
        ],
    }


def torchvision_mixed(images, labels, mix):
    transform = (v2.MixUp if mix.box is None else v2.CutMix)(num_classes=CLASSES)
    params = {"labels": labels, "batch_size": len(labels), "lam": mix.share, "lam_adjusted": mix.share}
    if mix.box is not None:
        top, left, bottom, right = mix.box
        params["box"] = (left, top, right, bottom)
    return transform.transform(images, params), transform.transform(labels, params)


@pytest.mark.parametrize("mix", [Mix(0.3, None, "torchvision"), Mix(1 - 70 / SIZE**2, (3, 20, 10, 30), "torchvision")])
@pytest.mark.parametrize("count", [1, 2, 7])
def test_mixed_as_torchvision_does(mix, count):
    images, labels = a_batch(count)
    expected, targets = torchvision_mixed(images, labels, mix)
    torch.testing.assert_close(mix_images(images, mix), expected)
    torch.testing.assert_close(mix_targets(labels, CLASSES, mix), targets)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("box", [None, (3, 20, 10, 30)])
def test_mixed_as_timm_does(box, smoothing, monkeypatch):
    timm = pytest.importorskip("timm.data.mixup")
    share = 0.3 if box is None else 1 - 70 / SIZE**2
    mix = Mix(share, box, "timm")
    mixup = timm.Mixup(0.2, 1.0, label_smoothing=smoothing, num_classes=CLASSES)
    mixup._params_per_batch = lambda: (share, box is not None)
    if box:
        top, left, bottom, right = box
        monkeypatch.setattr(timm, "cutmix_bbox_and_lam", lambda *_, **__: ((top, bottom, left, right), share))
    images, labels = a_batch()
    expected, targets = mixup(images.clone(), labels)
    torch.testing.assert_close(mix_images(images, mix), expected)
    ours = mix_targets(labels, CLASSES, mix) * (1 - smoothing) + smoothing / CLASSES  # which the loss does
    torch.testing.assert_close(ours, targets)


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("box", [None, (3, 20, 10, 30)])
def test_the_batch_is_left_as_it_was_and_keeps_its_layout(style, box):
    images, _ = a_batch()
    before = images.clone()
    mixed = mix_images(images, Mix(0.6, box, style))
    assert torch.equal(images, before)
    assert mixed.is_contiguous(memory_format=torch.channels_last)
    assert not torch.equal(mixed, images)


def test_nothing_is_left_of_the_partner_at_a_share_of_one():
    images, labels = a_batch()
    for style in STYLES:
        mix = Mix(1.0, None, style)
        assert torch.equal(mix_images(images, mix), images)
        assert mix_targets(labels, CLASSES, mix).argmax(1).tolist() == labels.tolist()


def test_a_small_alpha_does_not_underflow():
    shares = [m.share for m in draws(2000, mixup=0.001, cutmix=0.0)]
    assert all(math.isfinite(s) for s in shares)
    assert stats.binomtest(sum(s > 0.5 for s in shares), 2000).pvalue > 0.001


@pytest.mark.gpu
def test_nothing_waits_for_the_device():
    images, labels = (t.cuda() for t in a_batch())
    torch.cuda.set_sync_debug_mode("error")
    try:
        for box in (None, (3, 20, 10, 30)):
            for style in STYLES:
                mix_images(images, Mix(0.3, box, style))
                mix_targets(labels, CLASSES, Mix(0.3, box, style))
    finally:
        torch.cuda.set_sync_debug_mode("default")
