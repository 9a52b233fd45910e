"""Numbers and times that a request may name."""

from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from shared.models.geometry import Frozen
from shared.models.registry import (
    CalibrationCreate,
    DriftCreate,
    EvaluationCreate,
    GateCreate,
    ModelCopy,
    PromotionCreate,
    ScoringCreate,
    TrainingCreate,
)


@pytest.mark.parametrize("field", ["since", "until"])
def test_a_drift_window_needs_a_zone(field: str) -> None:
    with pytest.raises(ValidationError, match="should have timezone info"):
        DriftCreate.model_validate({field: "2026-01-01T00:00:00"})
    window = DriftCreate.model_validate({field: "2026-01-01T00:00:00Z"})
    assert getattr(window, field) == datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("version", [0, -1, 2**31, 10**20])
@pytest.mark.parametrize(
    ("model", "given", "field"),
    [
        (CalibrationCreate, {}, "model_version"),
        (CalibrationCreate, {}, "dataset_version"),
        (EvaluationCreate, {}, "model_version"),
        (EvaluationCreate, {"model_version": 1}, "dataset_version"),
        (GateCreate, {}, "model_version"),
        (GateCreate, {"model_version": 1}, "dataset_version"),
        (ModelCopy, {"source_project": "farm"}, "model_version"),
        (PromotionCreate, {}, "model_version"),
        (ScoringCreate, {}, "model_version"),
        (TrainingCreate, {}, "dataset_version"),
    ],
)
def test_a_version_that_there_can_never_be_is_refused(
    model: type[Frozen], given: dict[str, object], field: str, version: int
) -> None:
    assert getattr(model.model_validate(given | {field: 2**31 - 1}), field) == 2**31 - 1
    with pytest.raises(ValidationError, match=field):
        model.model_validate(given | {field: version})
