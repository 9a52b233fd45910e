"""Models, their manifests, calibrations, gate verdicts and drift reports."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AwareDatetime, Field

from shared.models.data import Slug, Split
from shared.models.geometry import MAX_INTEGER, Detection, Frozen
from shared.models.rounds import TrainingParams

VersionNumber = Annotated[int, Field(ge=1, le=MAX_INTEGER)]
Alias = Literal["candidate", "calibrated", "production", "previous"]
Engine = Literal["pytorch", "onnxruntime", "openvino"]


class Metrics(Frozen):
    """Detection quality on one split, in [0, 1]."""

    map50: float
    map50_95: float
    per_class_map50: dict[str, float]
    n_images: int


class ThresholdComponent(Frozen):
    """Per-class score thresholds and the IoU of the non-maximum suppression."""

    kind: Literal["thresholds"] = "thresholds"
    score_thresholds: tuple[float, ...] = Field(description="One per class, in the map's order.")
    nms_iou: float = Field(gt=0, le=1)
    fallback: tuple[bool, ...] = Field(
        description="Per class: too few positives, so the global threshold stands in."
    )


Component = Annotated[ThresholdComponent, Field(discriminator="kind")]


class CalibrationManifest(Frozen):
    """What serving applies on top of a model; it refuses a component it does not know."""

    schema_version: Literal[1] = 1
    project: str
    model_version: int
    weights_sha256: str
    components: tuple[ThresholdComponent, ...]


class OperatingPoint(Frozen):
    """Quality at fixed thresholds: micro-averaged over classes at IoU 0.5."""

    f1: float
    precision: float
    recall: float


class CalibrationResult(Frozen):
    """Result of a calibration job; `before` and `after` are measured on test."""

    project: str
    model_version: int
    manifest: CalibrationManifest
    before: OperatingPoint
    after: OperatingPoint
    kept: bool = Field(description="False when the fitted thresholds were not better on val.")


class GateVerdict(Frozen):
    """Champion against challenger on the gate split."""

    project: str
    challenger: int
    champion: int | None
    promoted: bool
    reasons: tuple[str, ...]
    challenger_metrics: Metrics
    champion_metrics: Metrics | None


class EngineChoice(Frozen):
    """Which engine computes a model on one kind of machine, and how fast each was there."""

    engine: Engine
    machine: str = Field(default="", description="Processor, threads, versions of the libraries.")
    images_per_s: dict[Engine, float] = Field(
        default={}, description="Empty: chosen without a measurement."
    )


class ModelView(Frozen):
    """One registered model version; everything here is read from MLflow."""

    project: str
    version: int
    aliases: tuple[str, ...]
    dataset_version: int | None
    round_id: str | None
    classes: tuple[str, ...]
    metrics: dict[str, float]
    weights_sha256: str
    run_id: str
    run_url: str
    created_at: datetime
    engines: tuple[EngineChoice, ...] = Field(
        default=(), description="Of each kind of machine that has loaded it."
    )


class TrainingCreate(Frozen):
    """Train on a dataset version."""

    dataset_version: VersionNumber
    params: TrainingParams = TrainingParams()
    round_id: str | None = None


class TrainingResult(Frozen):
    """Result of a training job."""

    project: str
    model_version: int
    dataset_version: int
    weights_sha256: str
    metrics: dict[Split, Metrics]
    seconds: dict[str, float] = Field(description="Of `train` and `evaluate`.")
    n_iterations: int


class ModelCopy(Frozen):
    """A model version of another project, to start from."""

    source_project: Slug
    model_version: VersionNumber


class EvaluationCreate(Frozen):
    """Measure a model again."""

    model_version: VersionNumber
    dataset_version: VersionNumber | None = Field(default=None, description="Unset: the newest.")
    split: Split = "test"


class EvaluationResult(Frozen):
    """Result of an evaluation job."""

    project: str
    model_version: int
    dataset_version: int
    split: Split
    metrics: Metrics


class ScoringCreate(Frozen):
    """Predict, embed and measure uncertainty for stored images, into Parquet shards."""

    model_version: VersionNumber | None = Field(
        default=None, description="Unset: the base model, for embeddings before any training."
    )
    splits: tuple[Split, ...] = ("train",)
    unlabelled_only: bool = Field(default=False, description="Leave labelled train images out.")
    n_passes: int = Field(default=10, ge=2, le=100)
    consistency: bool = Field(
        default=False, description="Look at the image flipped and made smaller too."
    )


class ScoringResult(Frozen):
    """Result of a scoring job."""

    project: str
    model_version: int | None
    n_scored: int
    n_known: int = Field(description="Already scored by this version.")
    images_per_s: float


class CalibrationCreate(Frozen):
    """Calibrate a model version on val; it must have been scored on val and test."""

    model_version: VersionNumber | None = Field(default=None, description="Unset: the newest.")
    dataset_version: VersionNumber | None = Field(
        default=None, description="Whose labels; unset: the newest."
    )


class GateCreate(Frozen):
    """Compare a model version with production on gate."""

    model_version: VersionNumber
    dataset_version: VersionNumber | None = Field(
        default=None, description="Whose labels; unset: the newest."
    )
    promote: bool = True


class PromotionCreate(Frozen):
    """Move the production alias by hand."""

    model_version: VersionNumber


class AliasView(Frozen):
    """Where the serving aliases point."""

    project: str
    production: int | None
    previous: int | None


class Prediction(Frozen):
    """What the served model sees in one image."""

    prediction_id: str
    image_id: str
    project: str
    model_version: int
    calibrated: bool
    width: int
    height: int
    detections: tuple[Detection, ...]
    seconds: float


class Refused(Frozen):
    """A model version that is not served, although it should be, and why."""

    model_version: int
    reason: str


class ServingView(Frozen):
    """Which model version serves a project on this machine."""

    project: str
    model_version: int
    calibrated: bool
    classes: tuple[str, ...]
    score_thresholds: tuple[float, ...]
    nms_iou: float
    loaded_at: datetime
    engine: EngineChoice
    n_waiting: int = Field(description="Requests in the model's queue.")
    refused: Refused | None
    registry_error: str | None = Field(description="The registry did not answer; the copy serves.")


class ScoredBox(Detection):
    """One box of a scored image with how unsure the model is of it."""

    entropy: float = Field(description="Of the mean class distribution, in nats; high is unsure.")
    margin: float = Field(description="First minus second probability; low is unsure.")
    certainty: float = Field(description="First probability; low is unsure.")
    bald: float = Field(description="Mutual information over the passes, in nats; high is unsure.")
    variance: float = Field(description="Of the probabilities over the passes; high is unsure.")
    localisation: float = Field(
        description="1 - mean IoU of the box with its passes, in [0, 1]; high is unsure."
    )
    inconsistency: float | None = Field(
        default=None,
        description="How much flipped and smaller views contradict the box, in [0, 1]; high is "
        "unsure. Null: scored without them.",
    )


class ImagePredictions(Frozen):
    """What a model version saw in a stored image when it scored it."""

    image_id: str
    model_version: int
    split: Split
    detections: tuple[ScoredBox, ...]
    brightness: float
    contrast: float
    sharpness: float


class DriftCreate(Frozen):
    """Compare a window of served predictions with the held-out images."""

    since: AwareDatetime | None = Field(
        default=None, description="Unset: everything of the version."
    )
    until: AwareDatetime | None = None
    batch: str | None = Field(default=None, description="Only predictions sent with this label.")
    max_predictions: int = Field(default=2000, ge=20, le=100_000)


class DriftResult(Frozen):
    """Result of a drift job."""

    report_id: str
    project: str
    model_version: int
    n_reference: int
    n_current: int
    drifted_columns: tuple[str, ...]
    columns: dict[str, float] = Field(description="p-value per column.")
    threshold: float
    html_key: str
    json_key: str
