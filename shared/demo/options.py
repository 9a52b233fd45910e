"""What can be set for the demo, by the variables of `make demo`."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from shared.errors import BadRequest
from shared.models.geometry import MAX_INTEGER, Frozen
from shared.models.strategies import parse_strategy

OPTIONS = ("DATA", "ROUNDS", "BUDGET", "EPOCHS", "STRATEGY", "SEED")
MAX_ROUNDS = 50


class DemoOptions(Frozen):
    """One demo."""

    data: Path | None = Field(default=None, description="YOLO, COCO or VOC folder; unset: digits.")
    rounds: int = Field(default=4, ge=1, le=MAX_ROUNDS)
    budget: int = Field(default=40, ge=1, le=100_000, description="Images a round.")
    epochs: int | None = Field(
        default=None, ge=1, le=1000, description="Unset: 25 of digits, else 40."
    )
    strategy: str = Field(default="entropy:sum", description="Of every round but the first.")
    # Round n has this plus n.
    seed: int = Field(default=0, ge=0, le=MAX_INTEGER - MAX_ROUNDS)
    n_batch: int = Field(default=80, ge=20, description="Images of each drift batch.")
    output: Path = Path("artifacts/demo")

    @property
    def n_epochs(self) -> int:
        """Return the epochs of every training."""
        return self.epochs or (25 if self.data is None else 40)

    @field_validator("strategy")
    @classmethod
    def _is_a_strategy(cls, text: str) -> str:
        try:
            parse_strategy(text)
        except BadRequest as exc:
            raise ValueError(str(exc)) from exc
        return text

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
