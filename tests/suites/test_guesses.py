import numpy as np

from resnetctl.suites.guesses import Guesses

GUESSES = Guesses(
    truth=np.array([0, 1, 2, 0, 1]),
    labels=np.array([[0, 1], [0, 1], [1, 0], [-1, -1], [2, 0]]),
    probabilities=np.array([[0.9, 0.1], [0.6, 0.4], [0.8, 0.1], [0.0, 0.0], [0.6, 0.2]], np.float32),
)


def test_hits_by_hand():
    assert GUESSES.correct.tolist() == [True, False, False, False, False]
    assert GUESSES.hits.any(1).tolist() == [True, True, False, False, False]


def test_the_worst_are_the_surest_of_the_wrong():
    assert GUESSES.worst(10) == [2, 1, 4]  # 3 was not read: no mistake of the model
    assert GUESSES.worst(1) == [2]
