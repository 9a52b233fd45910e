"""Random choice: the baseline."""

from collections.abc import Sequence

import numpy as np

from labeling_service.app.core.strategies.candidates import Choice


def choose_randomly(image_ids: Sequence[str], n: int, seed: int) -> list[Choice]:
    """Return `n` images drawn without replacement, or all when there are fewer.

    The same images, in any order, with the same seed give the same choice.
    """
    ordered = sorted(image_ids)
    drawn = np.random.default_rng(seed).permutation(len(ordered))[:n]
    reason = f"random draw of {len(drawn)} from {len(ordered)} images (seed {seed})"
    return [Choice(ordered[i], None, reason) for i in drawn]
