"""What `make demo` measured: the shape of `report.json`."""

from shared.models.geometry import Frozen
from shared.models.registry import OperatingPoint


class DatasetPart(Frozen):
    """What the loop worked on."""

    name: str
    n_images: int
    n_pool: int
    n_val: int
    n_gate: int
    n_test: int
    classes: tuple[str, ...]
    n_rejected: int


class RoundSeconds(Frozen):
    """Seconds of each part of a round."""

    score: float
    select: float
    label: float
    train: float
    evaluate: float
    calibrate: float


class RoundPart(Frozen):
    """One round; metrics on test."""

    index: int
    strategy: str
    n_labelled: int
    n_boxes: int
    map50: float
    map50_95: float
    model_version: int
    promoted: bool
    seconds: RoundSeconds


class ProductionPart(Frozen):
    """The model that is served at the end, measured again on test."""

    model: str
    version: int
    map50: float


class CalibrationPart(Frozen):
    """The served model on test with default and with fitted thresholds."""

    before: OperatingPoint
    after: OperatingPoint


class PredictionPart(Frozen):
    """One served prediction."""

    image: str
    n_boxes: int
    model_version: int


class DriftPart(Frozen):
    """What the drift reports said of two batches of the same size."""

    html: str
    shifted_columns: tuple[str, ...]
    unshifted_columns: tuple[str, ...]


class DemoReport(Frozen):
    """Everything."""

    dataset: DatasetPart
    rounds: tuple[RoundPart, ...]
    production: ProductionPart
    calibration: CalibrationPart
    prediction: PredictionPart
    drift: DriftPart
    stack: dict[str, str]
    peak_pss_mb: float
    seconds_total: float
