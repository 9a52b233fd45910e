"""Embeddings laid out on a plane."""

import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shared.models.search import MapMethod

FloatArray = NDArray[np.float32]

# Below it a neighbourhood is the whole set.
N_NEIGHBOURS = 15


def on_a_plane(embeddings: FloatArray, method: MapMethod, cache: Path) -> FloatArray:
    """Return a place on a plane for each embedding; equal input gives an equal map.

    In a process of its own: what UMAP compiles takes 300 MB, which go back at its end.

    Args:
        embeddings: shape (N, D), N >= 3, not zero; only their directions count.
        method: `umap` keeps neighbours together, `pca` is the plane of the greatest variance.
        cache: folder for what UMAP compiles, for the next time.

    Returns:
        Shape (N, 2), centred, of standard deviation 1 along the longer axis.

    Raises:
        ValueError: N < 3.

    Source:
        McInnes et al. 2018, UMAP (arXiv:1802.03426), by umap-learn.
    """
    if len(embeddings) < 3:
        msg = f"a map needs at least 3 images: {len(embeddings)}"
        raise ValueError(msg)
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        places = pool.submit(_umap if method == "umap" else _pca, unit, cache).result()
    places = places - places.mean(axis=0)
    scaled: FloatArray = (places / max(places.std(axis=0).max(), 1e-12)).astype(np.float32)
    return scaled


def _pca(unit: FloatArray, cache: Path) -> FloatArray:
    from sklearn.decomposition import PCA

    del cache
    places: FloatArray = PCA(n_components=2, svd_solver="full").fit_transform(unit)
    return places


def _umap(unit: FloatArray, cache: Path) -> FloatArray:
    # Beside the package, where numba would write, a container is read-only.
    os.environ.setdefault("NUMBA_CACHE_DIR", str(cache))
    from umap import UMAP

    mapper = UMAP(
        n_neighbors=min(N_NEIGHBOURS, len(unit) - 1),
        metric="cosine",
        # The spectral start fails on few images; with a seed it runs on one thread.
        init="pca",
        random_state=0,
        n_jobs=1,
    )
    places: FloatArray = mapper.fit_transform(unit)
    return places
