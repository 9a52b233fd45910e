"""Boxes as they travel between services: xyxy, normalised to [0, 1]."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

# The largest that an integer column holds.
MAX_INTEGER = 2**31 - 1
# Of the boxes of dataset versions: 1e-6 of 10 000 pixels is a hundredth of one.
_DECIMALS = 6

Unit = Annotated[float, Field(ge=0.0, le=1.0)]
Xyxy = tuple[Unit, Unit, Unit, Unit]
Source = Literal["human", "oracle", "model"]


class Frozen(BaseModel):
    """A value that is checked once and never changes."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def rounded(xyxy: Xyxy) -> Xyxy:
    """Return a box as dataset versions keep it, to six decimals."""
    x1, y1, x2, y2 = (round(value, _DECIMALS) for value in xyxy)
    return x1, y1, x2, y2


def has_area(xyxy: Xyxy) -> bool:
    """Tell whether a box still has an area as dataset versions keep it."""
    x1, y1, x2, y2 = rounded(xyxy)
    return x1 < x2 and y1 < y2


class Annotation(Frozen):
    """One labelled object: who said so is part of it."""

    class_id: int = Field(ge=0)
    xyxy: Xyxy
    source: Source = "human"

    @model_validator(mode="after")
    def _not_degenerate(self) -> Self:
        if not has_area(self.xyxy):
            msg = f"degenerate box (to {_DECIMALS} decimals x1 < x2 and y1 < y2): {self.xyxy}"
            raise ValueError(msg)
        return self


class Detection(Frozen):
    """One predicted object with the score of every class, in the order of the class map."""

    class_id: int = Field(ge=0)
    xyxy: Xyxy
    score: Unit
    class_scores: tuple[Unit, ...] = ()
    uncertainty: float | None = Field(default=None, description="BALD over the passes, in nats.")
