import numpy as np
import pytest

from resnetctl.data import imagenet
from resnetctl.data.index import Index
from resnetctl.errors import DataError
from resnetctl.suites.classes import imagenet_labels, val_numbers
from tests.fixtures.small_index import write_index


def test_a_model_of_imagenet_counts_as_imagenet_does():
    assert np.array_equal(imagenet_labels(imagenet.wnids(), "real"), np.arange(1000))


def test_a_model_of_some_wnids_counts_its_own_way():
    assert imagenet_labels(("n01751748", "n01440764"), "x").tolist() == [65, 0]


def test_other_classes_have_no_label_there():
    with pytest.raises(DataError, match="the suite real is about ImageNet's classes, but the model knows cat, dog"):
        imagenet_labels(("cat", "dog"), "real")


def test_the_numbers_of_val_images_are_those_of_their_names(tmp_path):
    names = ["n01440764/ILSVRC2012_val_00000293.JPEG", "n01751748/ILSVRC2012_val_00000001.JPEG"]
    index = Index(write_index(tmp_path, dict.fromkeys(names, b"x"), split="val"))
    assert val_numbers(index, "real").tolist() == [293, 1]


def test_other_images_have_no_number(tmp_path):
    index = Index(write_index(tmp_path, {"n01440764/tench.JPEG": b"x"}, split="val"))
    with pytest.raises(DataError, match=r"tench\.JPEG is not one"):
        val_numbers(index, "x")
