"""From what a model saw to the table that drift is looked for in: one row an image."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from shared.served import DriftRow

FloatArray = NDArray[np.float64]

N_COMPONENTS = 3


@dataclass(frozen=True)
class Tables:
    """Reference and current rows with the same columns."""

    reference: pd.DataFrame
    current: pd.DataFrame

    @property
    def columns(self) -> list[str]:
        """Return the names of the columns, in order."""
        return [str(name) for name in self.reference.columns]


def make_tables(
    reference: Sequence[DriftRow], current: Sequence[DriftRow], classes: Sequence[str]
) -> Tables:
    """Return the scalar columns and the principal components of the embeddings.

    The components are fitted on every second reference row, and only the other rows have values in
    their columns: along directions that were fitted to them, rows spread wider than new rows do,
    which the test takes for drift.

    Args:
        reference: of R images in an order that says nothing about them, R >= 4.
        current: of the images to compare.
        classes: the class map.
    """
    fit, rest = _embeddings(reference[::2]), _embeddings(reference[1::2])
    centre, components = principal_components(fit)
    unseen = np.full((len(reference), len(components)), np.nan)
    unseen[1::2] = (rest - centre) @ components.T
    now = (_embeddings(current) - centre) @ components.T
    return Tables(_table(reference, unseen, classes), _table(current, now, classes))


def principal_components(embeddings: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the mean and the directions of most variance.

    Args:
        embeddings: shape (N, D), N >= 2.

    Returns:
        The mean, shape (D,), and unit vectors, shape (K, D) with K = min(3, N - 1, D).
    """
    from sklearn.decomposition import PCA

    n_rows, n_features = embeddings.shape
    k = min(N_COMPONENTS, n_rows - 1, n_features)
    fitted = PCA(n_components=k, svd_solver="full").fit(embeddings)
    return fitted.mean_, fitted.components_


def _embeddings(rows: Sequence[DriftRow]) -> FloatArray:
    return np.stack([row.embedding for row in rows]).astype(np.float64)


def _table(
    rows: Sequence[DriftRow], components: FloatArray, classes: Sequence[str]
) -> pd.DataFrame:
    table = pd.DataFrame([row.columns(classes) for row in rows])
    for index, values in enumerate(components.T, start=1):
        table[f"embedding_{index}"] = values
    return table
