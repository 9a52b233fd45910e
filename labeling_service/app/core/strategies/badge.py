"""BADGE for detectors: images that would change the model much, and in different ways."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from labeling_service.app.core.strategies.aggregation import counted
from labeling_service.app.core.strategies.classes import Classes
from labeling_service.app.core.strategies.pool import Choice, FloatArray, Pool
from shared.predictions import ScoredImage

# Of float32 products: a nearer pair of gradient embeddings is a pair of copies.
RESOLUTION = 1e-5


class Badge:
    """k-means++ on gradient embeddings, from the origin: a gradient of zero teaches nothing.

    Source:
        Ash et al. 2020 (arXiv:1906.03671). Their gradient of the last layer, taken at the model's
        own guess as the label, is (p - guess) times the features, of every example. Here it is
        summed over an image's boxes: for each class the lengths of (p - guess) of the boxes that
        it is the best class of, since signed sums of several boxes would cancel, times the
        embedding of the image in place of each box's own features. Sampling: Arthur and
        Vassilvitskii 2007.
    """

    def __init__(self, classes: Classes) -> None:
        """Tell the gradients of these classes apart."""
        self._classes = classes

    def summarise(self, image: ScoredImage) -> FloatArray:
        """Return the summed lengths of the boxes of each class, shape (C,); 0 without boxes."""
        mask = counted(image)
        guesses = self._classes.shares(image)[mask].argmax(axis=1)
        mean = image.class_probabilities[mask].astype(np.float32).mean(axis=2)
        # |p - e|^2 = |p|^2 - 2 p_e + 1, of the guess e among the classes and background.
        best = mean.max(axis=1, initial=0.0)
        lengths = np.sqrt(np.maximum((mean**2).sum(axis=1) - 2 * best + 1, 0))
        n_classes = len(self._classes.names)
        return np.bincount(guesses, lengths, minlength=n_classes).astype(np.float32)

    def order(self, pool: Pool, n: int, seed: int) -> Iterator[Choice]:
        """Yield images drawn by their squared distance to the nearest one drawn before.

        What is left when every distance is 0 has no gradient, or is a copy: it comes by image id.
        """
        del n
        rng = np.random.default_rng(seed)
        gradients = _Gradients(pool.summaries, pool.embeddings)
        nearest = gradients.squares.copy()
        left = np.ones(len(pool), np.bool_)
        while nearest.any():
            row = int(rng.choice(len(pool), p=nearest / nearest.sum()))
            length, distance = float(np.sqrt(gradients.squares[row])), float(np.sqrt(nearest[row]))
            reason = (
                f"gradient {length:.3f}, most of it for {self._top(pool, row)!r}, "
                f"{distance:.3f} from every chosen one"
            )
            yield Choice(row, distance, reason)
            left[row] = False
            nearest = np.minimum(nearest, gradients.squared_distances(row))
            nearest[row] = 0.0
        for row in np.flatnonzero(left).tolist():
            yield Choice(row, 0.0, "gradient 0.000 from zero or from a chosen one")

    def _top(self, pool: Pool, row: int) -> str:
        return self._classes.names[int(pool.summaries[row].argmax())]


class _Gradients:
    """Outer products of each image's class lengths (P, C) and features (P, D), never made.

    <a x h, b x g> = <a, b> <h, g>, so that C + D numbers of an image stand for its C D.
    """

    def __init__(self, lengths: FloatArray, features: FloatArray) -> None:
        self._lengths = lengths
        self._features = features
        self.squares: NDArray[np.float64] = np.asarray(
            (lengths.astype(np.float64) ** 2).sum(axis=1)
            * np.einsum("ij,ij->i", features, features, dtype=np.float64)
        )

    def squared_distances(self, row: int) -> NDArray[np.float64]:
        """Return the squared distance of each to one of them, shape (P,)."""
        products = (self._lengths @ self._lengths[row]).astype(np.float64)
        products *= self._features @ self._features[row]
        scale = self.squares + self.squares[row]
        squares = scale - 2 * products
        return np.asarray(np.where(squares < RESOLUTION * scale, 0.0, squares))
