"""What a replay simulation came to, as it is kept with a project and shown beside its own curve."""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

from pydantic import ConfigDict, Field, JsonValue

from shared.models.data import Slug
from shared.models.geometry import Frozen

Axis = Literal["images", "boxes"]


class Finite(Frozen):
    """Frozen, and without NaN or infinity, which JSON does not have."""

    model_config = ConfigDict(allow_inf_nan=False)


class DatasetFacts(Finite):
    """The data set of a simulation; `content_hash` covers its held-out labels and class names."""

    name: str
    classes: tuple[str, ...]
    n_pool: int
    n_test: int
    content_hash: str


class Interval(Finite):
    """A mean over seeds with its 95 % interval; no interval from a single seed."""

    mean: float
    error: float | None = Field(description="Standard error of the mean.")
    low: float | None
    high: float | None
    n: int

    def text(self, sign: Literal["", "+"] = "") -> str:
        """Return the mean with half of the interval's width, as far as there is one."""
        mean = f"{self.mean:{sign}.3f}"
        if self.low is None or self.high is None:
            return mean
        return f"{mean} ± {(self.high - self.low) / 2:.3f}"


class Size(Finite):
    """An arm at one size of the label set, over seeds."""

    n_images: int
    n_boxes: float = Field(description="Mean over seeds.")
    map50: Interval
    map50_95: Interval


class Saving(Finite):
    """How many labels fewer than random reach the same mAP50, at one size.

    Attributes:
        at: labels of the arm, mean over seeds.
        map50: of the arm there, mean over seeds.
        random_needs: labels of random for that; None where its curve ends below.
        saved: share in [0, 1]; negative where the arm needs more.
        low: lower end of the interval: that of the paired difference at this size, in labels. At
            lowest what the start costs.
        high: upper end.
        bound: random's curve ends below, so that `saved` is only a lower bound.
        high_bound: it ends below the interval's end, so that `high` is only a lower bound of it.
    """

    at: float
    map50: float
    random_needs: float | None
    saved: float
    low: float | None
    high: float | None
    bound: bool
    high_bound: bool = False

    def text(self) -> str:
        """Return it in words: `46% fewer at 90 (32% to 50%)`."""
        if self.bound and self.saved <= 0:
            return f"unknown at {self.at:.0f}, random's curve ends before"
        bound = "at least " if self.bound else ""
        return f"{bound}{_amount(self.saved)} at {self.at:.0f}{self._ends()}"

    def _ends(self) -> str:
        if self.low is None or self.high is None:
            return ""
        if self.bound:
            return f" (interval from {_amount(self.low)})"
        more = " or more" if self.high_bound else ""
        if _fewer(self.low) != _fewer(self.high) or _fewer(self.low) != _fewer(self.saved):
            return f" ({_amount(self.low)} to {_amount(self.high)}{more})"
        low, high = sorted((abs(self.low), abs(self.high)))
        return f" ({low:.0%} to {high:.0%}{more})"


def _fewer(share: float) -> bool:
    return round(share, 2) >= 0


def _amount(share: float) -> str:
    return f"{abs(share):.0%} {'fewer' if _fewer(share) else 'more'}"


def told_saving(savings: Sequence[Saving]) -> Saving | None:
    """Return the saving at the largest size that random's curve tells; else the last bound."""
    told = [saving for saving in savings if not saving.bound] or savings
    return told[-1] if told else None


def savings_text(savings: Sequence[Saving]) -> str:
    """Return in words what was saved where random's curve tells it, and the bound beyond."""
    shown = (told_saving(savings), *savings[-1:])
    return ", ".join(dict.fromkeys(saving.text() for saving in shown if saving))


class Arm(Finite):
    """One curve and what it is beside random."""

    name: str
    n_seeds: int
    sizes: tuple[Size, ...] = Field(min_length=1)
    auc_images: Interval | None = Field(description="Mean mAP50 over the images all reached.")
    auc_boxes: Interval | None = Field(description="Mean mAP50 over the boxes all reached.")
    difference_images: Interval | None = Field(description="Paired, mean mAP50 from start to end.")
    difference_boxes: Interval | None = Field(description="Paired, at equal boxes.")
    saved_images: tuple[Saving, ...]
    saved_boxes: tuple[Saving, ...]
    verdict: str


class Advice(Finite):
    """What to choose by, and how sure that is."""

    strategy: str = Field(description="As a round takes it.")
    axis: Axis = Field(description="What labels are counted in: the unit of the budget.")
    confidence: float | None = Field(
        description="That it beats random: 1 - p of the paired two-sided t-test, all strategies "
        "that were tried counted (Holm); none from a single seed."
    )
    words: str = Field(min_length=1)


class SimulationResults(Finite):
    """Everything that follows from the cells; equal cells give equal results."""

    dataset: DatasetFacts
    settings: dict[str, JsonValue]
    noise_map50: float | None = Field(
        description="Standard deviation of mAP50 between trainings on the same labels."
    )
    arms: tuple[Arm, ...] = Field(min_length=1)
    advice: Advice


class SimulationView(Finite):
    """Results that are kept with a project, under a name."""

    project: str
    name: Slug
    results: SimulationResults
    created_at: datetime
