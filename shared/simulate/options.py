"""What a replay simulation is asked for, and the cells it consists of."""

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, JsonValue, model_validator

from shared.models.geometry import Frozen
from shared.models.rounds import MAX_ITERATIONS, TrainingParams

# Always there: what every strategy is compared with.
BASELINE = "random"
FULL_POOL = "full pool"
BALANCED = "balanced batches"
# Of every interval.
LEVEL = 0.95


class SimulationOptions(Frozen):
    """One simulation: strategies on one data set, by paired seeds."""

    data: Path
    strategies: tuple[str, ...] = (BASELINE, "entropy", "class_weighted_entropy")
    seeds: int = Field(default=5, ge=1, le=1000)
    start: int = Field(default=20, ge=1, description="Images of the random start set.")
    rounds: int = Field(default=3, ge=1, le=100, description="After the start.")
    baseline_rounds: int | None = Field(
        default=None,
        ge=1,
        le=300,
        description="Rounds of random, so that its curve goes on; unset: as many as `rounds`.",
    )
    budget: int = Field(default=20, ge=1)
    budget_unit: Literal["images", "boxes"] = "images"
    noise: float = Field(default=0.0, ge=0, le=1, description="Of the oracle.")
    repeats: int = Field(
        default=1, ge=0, description="Cells of random trained again with another seed: the noise."
    )
    balanced: bool = Field(default=False, description="Random with class-balanced batches beside.")
    full_pool: bool = Field(default=False, description="A model of the whole pool as reference.")
    training: TrainingParams = TrainingParams()
    warm_iterations: int | None = Field(
        default=None,
        ge=1,
        le=MAX_ITERATIONS,
        description="Of every training after the start, which then goes on from the model that "
        "scored its round; unset: each begins at the base and is as long as the first.",
    )
    output: Path = Path("artifacts/simulate")

    @model_validator(mode="after")
    def _whole_pool_is_trainable(self) -> Self:
        length = (self.warm_iterations or 0) * max(self.baseline_rounds or 0, self.rounds)
        if self.full_pool and length > MAX_ITERATIONS:
            msg = (
                f"the whole pool would train for {length:,} iterations, as many as all rounds of "
                f"random, and at most {MAX_ITERATIONS:,} are possible"
            )
            raise ValueError(msg)
        return self

    def settings(self) -> dict[str, JsonValue]:
        """Return what decides a cell's numbers besides strategy, seed and number of rounds."""
        return {
            "start": self.start,
            "budget": self.budget,
            "budget_unit": self.budget_unit,
            "noise": self.noise,
            "warm_iterations": self.warm_iterations,
            "training": self.training.model_dump(mode="json", exclude={"seed"}),
        }


class Cell(Frozen):
    """One run: a strategy with a seed from the common start to its last round.

    Attributes:
        strategy: as it is written, `0.8 entropy + 0.2 random`.
        seed: of data splits, start set and choice.
        repeat: 0, or the number of another training seed on the same choice.
        balanced: trained with class-balanced batches.
        full_pool: one round that takes everything.
        n_rounds: after the start; of a full pool, the rounds whose trainings its one is as long as.
    """

    strategy: str
    seed: int
    n_rounds: int
    repeat: int = 0
    balanced: bool = False
    full_pool: bool = False

    @property
    def arm(self) -> str:
        """Return the name that its curve has."""
        if self.full_pool:
            return FULL_POOL
        return f"{self.strategy}, {BALANCED}" if self.balanced else self.strategy

    @property
    def slug(self) -> str:
        """Return its name as a file; unequal cells have unequal names."""
        words = re.sub(r"[^a-z0-9]+", "-", self.arm.lower()).strip("-")[:24].strip("-")
        digest = hashlib.sha256(self.arm.encode()).hexdigest()[:6]
        again = f"-t{self.repeat}" if self.repeat else ""
        return f"{words}-{digest}-s{self.seed}{again}"

    @property
    def training_seed(self) -> int:
        """Return the seed of its trainings."""
        return self.seed + 10_000 * self.repeat


def cells_of(options: SimulationOptions, part: tuple[int, int] = (1, 1)) -> Iterator[Cell]:
    """Yield the cells, seed by seed.

    Args:
        options: of the simulation.
        part: (i, n): only every n-th seed, from the i-th on, for the i-th of n machines.
    """
    others = [name for name in dict.fromkeys(options.strategies) if name != BASELINE]
    baseline_rounds = max(options.baseline_rounds or options.rounds, options.rounds)
    for seed in range(part[0] - 1, options.seeds, part[1]):
        yield Cell(strategy=BASELINE, seed=seed, n_rounds=baseline_rounds)
        for name in others:
            yield Cell(strategy=name, seed=seed, n_rounds=options.rounds)
        if options.balanced:
            yield Cell(strategy=BASELINE, seed=seed, n_rounds=baseline_rounds, balanced=True)
        if options.full_pool:
            length = 1 if options.warm_iterations is None else baseline_rounds
            yield Cell(strategy=BASELINE, seed=seed, n_rounds=length, full_pool=True)
        if seed < options.repeats:
            yield Cell(strategy=BASELINE, seed=seed, n_rounds=options.rounds, repeat=1)
