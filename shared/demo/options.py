"""What can be set for the demo, by the variables of `make demo`."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from shared.models.geometry import Frozen

OPTIONS = ("DATA", "ROUNDS", "BUDGET", "EPOCHS", "STRATEGY", "SEED")


class DemoOptions(Frozen):
    """One demo."""

    data: Path | None = Field(default=None, description="YOLO, COCO or VOC folder; unset: digits.")
    rounds: int = Field(default=4, ge=1, le=50)
    budget: int = Field(default=40, ge=1, description="Images a round.")
    epochs: int = Field(default=40, ge=1)
    strategy: str = Field(default="entropy:sum", description="Of every round but the first.")
    seed: int = Field(default=0, ge=0)
    n_batch: int = Field(default=80, ge=20, description="Images of each drift batch.")
    output: Path = Path("artifacts/demo")

    @property
    def image_size(self) -> int:
        """Return the longer side to train at, pixels; digit scenes are small."""
        return 160 if self.data is None else 320


def read_options(environ: Mapping[str, str] | None = None) -> DemoOptions:
    """Return the options of the environment; an empty variable is not set.

    Raises:
        ValidationError: a value does not fit.
    """
    given = os.environ if environ is None else environ
    values: dict[str, Any] = {n.lower(): given[n] for n in OPTIONS if given.get(n)}
    return DemoOptions.model_validate(values)
