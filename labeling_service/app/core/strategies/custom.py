"""Strategies of others: installed beside this service, and found by their entry point."""

import math
from collections.abc import Iterator
from importlib.metadata import entry_points
from typing import Any

import numpy as np

from labeling_service.app.core.strategies.pool import Choice, FloatArray, Pool
from labeling_service.app.models.errors import UnknownStrategy
from shared.models.strategies import CustomStrategy
from shared.predictions import ScoredImage

GROUP = "fovea.strategies"


class Custom:
    """A plug-in as a strategy: it may answer in plain arrays and tuples."""

    def __init__(self, strategy: CustomStrategy) -> None:
        """Make the plug-in by its entry point, with the parameters as keyword arguments.

        Raises:
            UnknownStrategy: no installed package has this entry point, its import fails, or it
                does not take these parameters.
        """
        self._name = strategy.name
        factory = _factory(strategy.name)
        try:
            self._plugin = factory(**strategy.params)
        except Exception as exc:  # whatever a plug-in raises, its name is told with it
            msg = (
                f"strategy {strategy.name!r} cannot be made with the parameters {strategy.params}: "
                f"{type(exc).__name__}: {exc}"
            )
            raise UnknownStrategy(msg) from exc

    @property
    def needs_model(self) -> bool:
        """Tell whether it looks at boxes; so it is unless the plug-in says otherwise."""
        return bool(getattr(self._plugin, "needs_model", True))

    @property
    def needs_labelled(self) -> bool:
        """Tell whether it looks at the embeddings of labelled images."""
        return bool(getattr(self._plugin, "needs_labelled", False))

    def summarise(self, image: ScoredImage) -> FloatArray:
        """Return what the plug-in keeps of an image, shape (S,)."""
        return np.asarray(self._plugin.summarise(image), np.float32)

    def order(self, pool: Pool, n: int, seed: int) -> Iterator[Choice]:
        """Yield what the plug-in chooses.

        Raises:
            ValueError: it gives a value that is not finite, or a row that is not in the pool.
        """
        for row, value, reason in self._plugin.order(pool, n, seed):
            if not 0 <= row < len(pool):
                msg = f"strategy {self._name!r} gives row {row} of a pool of {len(pool)}"
                raise ValueError(msg)
            if value is not None and not math.isfinite(value):
                msg = f"strategy {self._name!r} gives row {row} the value {value}"
                raise ValueError(msg)
            yield Choice(int(row), None if value is None else float(value), str(reason))


def _factory(name: str) -> Any:
    found = entry_points(group=GROUP)
    if name not in found.names:
        known = ", ".join(sorted(found.names)) or "none"
        msg = f"no strategy {name!r} is installed (entry points of {GROUP!r}: {known})"
        raise UnknownStrategy(msg)
    try:
        return found[name].load()
    except Exception as exc:  # importing runs whatever the package holds
        msg = f"strategy {name!r} cannot be imported: {type(exc).__name__}: {exc}"
        raise UnknownStrategy(msg) from exc
