"""What a model guessed for each image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Guesses:
    """The five most probable classes (or all, where there are fewer) of N images, in the order of their index."""

    truth: np.ndarray
    """`[N] int64`: the images' labels."""
    labels: np.ndarray
    """`[N, K] int64`: the most probable first; -1 if the image could not be read."""
    probabilities: np.ndarray
    """`[N, K] float32`: their softmax; 0 if the image could not be read."""

    @property
    def hits(self) -> np.ndarray:
        """`[N, K] bool`: whether guess k is right."""
        return self.labels == self.truth[:, None]

    @property
    def correct(self) -> np.ndarray:
        """`[N] bool`: whether the first guess is right."""
        return self.labels[:, 0] == self.truth

    def worst(self, most: int) -> list[int]:
        """The images about which the model was surest and wrong, the worst first."""
        wrong = np.flatnonzero(~self.correct & (self.labels[:, 0] >= 0))
        return [int(i) for i in wrong[np.argsort(-self.probabilities[wrong, 0], kind="stable")][:most]]
