"""What is known of the classes: how rare each is among the labels, how well the model finds it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labeling_service.app.core.strategies.pool import FloatArray
from shared.models.strategies import Weighting
from shared.predictions import ScoredImage

# Also a class that the model finds perfectly on a small val split keeps some weight.
LEAST_DIFFICULTY = 0.05


@dataclass(frozen=True)
class Classes:
    """The classes of a project, C of them.

    Attributes:
        names: in the order of their ids.
        n_labels: labelled boxes of each in the train split, C in all.
        ap50: average precision of each on val, C in all; None where it was not measured.
    """

    names: tuple[str, ...]
    n_labels: tuple[int, ...]
    ap50: tuple[float | None, ...]

    def weights(self, by: Weighting) -> FloatArray:
        """Return how much a box of each class counts, shape (C,), of mean 1.

        Rarity is 1 / (n + 1) of n labelled boxes: without it, the frequent class would have the
        whole sum over boxes. Difficulty is 1 - AP50, at least `LEAST_DIFFICULTY`; a class that was
        not measured is as difficult as the mean of the others.

        Source:
            Weights by frequency are an idea of Brust et al. 2019 (arXiv:1809.09875), by difficulty
            one of Yang et al. 2022, PPAL (arXiv:2211.11612), who measure it while training.
        """
        rarity = _mean_1(1.0 / (np.array(self.n_labels, np.float64) + 1.0))
        if by == "rarity":
            return rarity.astype(np.float32)
        difficulty = self._difficulty()
        weights = difficulty if by == "difficulty" else _mean_1(rarity * difficulty)
        return weights.astype(np.float32)

    def shares(self, image: ScoredImage) -> FloatArray:
        """Return what class each box is if it is an object, shape (N, C), sums to 1 over C.

        That is the mean of the passes without background; NaN where it says nothing.

        Raises:
            ValueError: the model has other classes than the project.
        """
        n_boxes, n_classes = len(image.scores), len(self.names)
        if n_boxes == 0:
            return np.zeros((0, n_classes), np.float32)
        if image.class_probabilities.shape[1] != n_classes + 1:
            msg = (
                f"image {image.image_id}: the model knows "
                f"{image.class_probabilities.shape[1] - 1} classes, the project {n_classes}"
            )
            raise ValueError(msg)
        mean = image.class_probabilities[:, :-1].astype(np.float32).mean(axis=2)
        total = mean.sum(axis=1, keepdims=True)
        shares: FloatArray = np.full_like(mean, np.nan)
        np.divide(mean, total, out=shares, where=total > 0)
        return shares

    def _difficulty(self) -> NDArray[np.float64]:
        measured = [ap for ap in self.ap50 if ap is not None]
        mean = float(np.mean(measured)) if measured else 0.0
        known = np.array([mean if ap is None else ap for ap in self.ap50], np.float64)
        return _mean_1(np.maximum(1.0 - known, LEAST_DIFFICULTY))


def _mean_1(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(weights / weights.mean())
