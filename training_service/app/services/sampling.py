"""In which order images are seen, and how often, where classes are to be balanced."""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Sampler


class FullBatchSampler(Sampler[int]):
    """Indices of an epoch in which every batch is full: passes over the images run into each other.

    Equal numbers of steps then see equal numbers of images, however few there are to choose from.
    """

    def __init__(
        self,
        n_images: int,
        batch: int,
        generator: torch.Generator,
        *,
        min_batches: int = 1,
        factors: NDArray[np.float64] | None = None,
    ) -> None:
        """Draw from `generator` at every start.

        Args:
            n_images: N, to choose from.
            batch: images of a batch.
            generator: its state decides the order.
            min_batches: of an epoch; as many as the images fill, if that is more.
            factors: shape (N,), how often each image is seen relative to the others; unset: each
                once a pass.
        """
        self._n_images = n_images
        self._n_draws = max(min_batches, -(-n_images // batch)) * batch
        self._generator = generator
        self._factors = None if factors is None else torch.from_numpy(factors)

    def __len__(self) -> int:
        return self._n_draws

    def __iter__(self) -> Iterator[int]:
        if self._factors is not None:
            drawn = torch.multinomial(
                self._factors, self._n_draws, replacement=True, generator=self._generator
            )
            yield from drawn.tolist()
            return
        n_passes = -(-self._n_draws // self._n_images)
        passes = [
            torch.randperm(self._n_images, generator=self._generator) for _ in range(n_passes)
        ]
        yield from torch.cat(passes)[: self._n_draws].tolist()


def repeat_factors(classes: Sequence[Collection[int]]) -> NDArray[np.float64]:
    """Return how often each image should be seen, relative to one with nothing rare on it.

    The factor of an image is the largest of its classes' `sqrt(1 / f)`, where `f` is the share of
    the images that show the class: 1 for a class on every image and for an image without boxes.

    Args:
        classes: class ids of the boxes of each image, N of them.

    Returns:
        Factors, shape (N,), at least 1.

    Source:
        Repeat-factor sampling of LVIS (Gupta et al. 2019, arXiv:1908.03195) with threshold 1: small
        label sets have no class as rare as its default of 0.001.
    """
    n_with = Counter(class_id for of_image in classes for class_id in set(of_image))
    shares = {class_id: n / len(classes) for class_id, n in n_with.items()}
    return np.array(
        [max((shares[c] ** -0.5 for c in set(of_image)), default=1.0) for of_image in classes]
    )
