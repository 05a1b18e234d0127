"""The training loss against torch's and timm's own, and by hand."""

import math

import pytest
import torch

from resnetctl.data.batches.mix import shares_of
from resnetctl.engine.loss import training_loss
from resnetctl.recipe import TrainRecipe

LOGITS = torch.tensor([[2.0, -1.0, 0.5, 0.0], [0.0, 0.0, 3.0, -2.0]])
LABELS = torch.tensor([0, 3])
MIXED = torch.tensor([[0.7, 0.3, 0.0, 0.0], [0.0, 0.0, 0.15, 0.85]])


def train(**values) -> TrainRecipe:
    return TrainRecipe(epochs=1, global_batch=2, **values)


@pytest.mark.parametrize("targets", [LABELS, MIXED], ids=["labels", "mixed"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_is_torchs_with_its_smoothing(targets, smoothing):
    theirs = torch.nn.CrossEntropyLoss(label_smoothing=smoothing)(LOGITS, targets)
    assert training_loss(LOGITS, targets, train(label_smoothing=smoothing)) == pytest.approx(theirs.item())


@pytest.mark.parametrize("threshold", [None, 0.2])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_bce_of_labels_is_timms(smoothing, threshold):
    loss = pytest.importorskip("timm.loss").BinaryCrossEntropy(smoothing=smoothing, target_threshold=threshold)
    ours = training_loss(LOGITS, LABELS, train(loss="bce", label_smoothing=smoothing, bce_threshold=threshold or 0.0))
    assert ours == pytest.approx(loss(LOGITS, LABELS).item())


def test_each_class_of_a_mixed_image_counts_fully_above_the_threshold():
    """0.7 and 0.3 become 1 and 1; 0.15 and 0.85 become 0 and 1."""
    wanted = torch.tensor([[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]])
    by_hand = sum(
        -math.log(torch.sigmoid(x if t else -x).item())
        for x, t in zip(LOGITS.flatten(), wanted.flatten().tolist(), strict=True)
    )
    assert training_loss(LOGITS, MIXED, train(loss="bce", bce_threshold=0.2)) == pytest.approx(by_hand / 8)
    assert training_loss(LOGITS, MIXED, train(loss="bce", bce_threshold=0.2, bce_sum=True)) == pytest.approx(
        by_hand / 2
    )


def test_labels_as_shares_are_torchs_one_hot():
    labels = torch.tensor([3, 0, 0, 2])
    assert torch.equal(shares_of(labels, 4), torch.nn.functional.one_hot(labels, 4).float())
