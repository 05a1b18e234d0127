import numpy as np
import pytest

from resnetctl.suites.trouble import label_trouble


def predictions(classes, each, accuracy, seed=0):
    """Labels, and predictions that are right with this probability, else any class."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes), each)
    guess = rng.integers(0, classes, len(labels))
    return labels, np.where(rng.uniform(size=len(labels)) < accuracy, labels, guess)


def string_sorted(labels, classes):
    """Positions that numbers get when folders are sorted as strings."""
    order = sorted(range(classes), key=str)
    return np.argsort(order)[labels]


@pytest.mark.parametrize(("classes", "each"), [(1000, 50), (1000, 10), (10, 20), (2, 50)])
def test_a_good_model_has_no_trouble(classes, each):
    for accuracy in (0.7, 0.95, 1.0):
        assert label_trouble(*predictions(classes, each, accuracy), classes) is None


@pytest.mark.parametrize("each", [50, 10])
def test_numbers_sorted_as_strings_are_recognised(each):
    labels, predicted = predictions(1000, each, 0.75)
    text = label_trouble(string_sorted(labels, 1000), predicted, 1000)
    assert text is not None
    assert "in another order" in text
    assert "75." in text or "76." in text or "74." in text


def test_two_classes_the_wrong_way_round_are_recognised():
    labels, predicted = predictions(2, 50, 0.9)
    assert "in another order" in label_trouble(1 - labels, predicted, 2)


def test_guessing_is_called_so():
    labels, predicted = predictions(1000, 50, 0.0)
    text = label_trouble(labels, predicted, 1000)
    assert "no better than guessing among 1,000 classes" in text
    assert "in another order" not in text


def test_always_the_same_class_is_guessing():
    labels, _ = predictions(10, 20, 0)
    assert "guessing" in label_trouble(labels, np.full(len(labels), 3), 10)


def test_a_model_at_the_start_of_its_training_is_not_in_trouble():
    for seed in range(5):
        assert label_trouble(*predictions(10, 50, 0.15, seed), 10) is None


def test_unreadable_images_say_nothing():
    labels, predicted = predictions(10, 20, 0.9)
    predicted[:20] = -1
    assert label_trouble(labels, predicted, 10) is None
    assert label_trouble(labels, np.full(len(labels), -1), 10) is None


def test_one_class_cannot_be_permuted():
    assert label_trouble(np.zeros(5, int), np.zeros(5, int), 1) is None
