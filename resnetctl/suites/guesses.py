"""A model's guesses for each image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Guesses:
    """The five most probable classes (or all, if fewer) of N images, in index order."""

    truth: np.ndarray
    """`[N] int64`: the images' labels."""
    labels: np.ndarray
    """`[N, K] int64`: most probable first; -1 for an unreadable image."""
    probabilities: np.ndarray
    """`[N, K] float32`: their softmax; 0 for an unreadable image."""

    @property
    def hits(self) -> np.ndarray:
        """`[N, K] bool`: whether guess k is right."""
        return self.labels == self.truth[:, None]

    @property
    def correct(self) -> np.ndarray:
        """`[N] bool`: whether the first guess is right."""
        return self.labels[:, 0] == self.truth

    def worst(self, most: int) -> list[int]:
        """The images on which the model was most confidently wrong, worst first."""
        wrong = np.flatnonzero(~self.correct & (self.labels[:, 0] >= 0))
        return [int(i) for i in wrong[np.argsort(-self.probabilities[wrong, 0], kind="stable")][:most]]
