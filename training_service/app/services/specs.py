"""What the worker asks of its child process, and what comes back; both travel as files."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from shared.models.data import Split
from shared.models.geometry import Frozen
from shared.models.registry import Metrics
from shared.models.rounds import TrainingParams

# Of the head, in Bayesian passes and, unless told otherwise, while training; plain predictions go
# without.
HEAD_DROPOUT = 0.1

Precision = Literal["auto", "float32", "bfloat16"]


class TrainSpec(Frozen):
    """One training; `work` keeps checkpoint, package and outcome."""

    kind: Literal["train"] = "train"
    data_yaml: Path
    work: Path
    classes: tuple[str, ...]
    params: TrainingParams
    base: str
    base_package: Path | None = Field(
        default=None, description="Where the base lies, if it is one of the project's own models."
    )
    downloads: Path = Field(description="Where a downloaded base is kept.")
    evaluate: tuple[Split, ...] = ()
    dropout: float = Field(default=HEAD_DROPOUT, ge=0, lt=1, description="Of Bayesian passes.")
    threads: int = Field(default=0, ge=0, description="0 means all cores.")
    precision: Precision = "auto"
    checkpoint_every_s: float = Field(default=5.0, ge=0)

    @property
    def training_dropout(self) -> float:
        """Return the dropout of the head while training."""
        return self.dropout if self.params.dropout is None else self.params.dropout

    @property
    def package(self) -> Path:
        """Return where the trained model lies."""
        return self.work / "package"

    @property
    def plots(self) -> Path:
        """Return the folder of the pictures."""
        return self.work / "plots"


class EvaluateSpec(Frozen):
    """One measurement of a model package on one split."""

    kind: Literal["evaluate"] = "evaluate"
    data_yaml: Path
    work: Path
    package: Path
    split: Split
    threads: int = Field(default=0, ge=0)


class Progress(Frozen):
    """One line that the child says on its standard output."""

    fraction: float = Field(ge=0, le=1)
    message: str


class TrainOutcome(Frozen):
    """What a training came to."""

    weights_sha256: str
    metrics: dict[Split, Metrics]
    history: dict[str, list[float]] = Field(description="Mean losses, one value per epoch.")
    seconds: dict[str, float]
    n_iterations: int
    precision: str


class EvaluateOutcome(Frozen):
    """What a measurement came to."""

    metrics: Metrics
