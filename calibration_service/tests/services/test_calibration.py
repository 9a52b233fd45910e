from typing import TYPE_CHECKING

import pytest

from calibration_service.app.services.calibration import Calibrator, NoModel
from calibration_service.app.services.evidence import (
    EvidenceReader,
    NotLabelled,
    NotScored,
    OtherClasses,
)
from calibration_service.tests.conftest import AddModel
from calibration_service.tests.synthetic import LEFT, NOWHERE, RIGHT, World, write
from shared.errors import NotFound
from shared.models.registry import CalibrationCreate, CalibrationManifest, OperatingPoint
from shared.objects.port import ObjectStore

if TYPE_CHECKING:
    from shared.registry import ModelRegistry

SEEN = [(LEFT, 0, 0.8), (NOWHERE, 0, 0.5), (RIGHT, 1, 0.15)]
THERE = [(LEFT, 0), (RIGHT, 1)]


def _unheard(fraction: float, message: str) -> None:
    del fraction, message


@pytest.fixture
def calibrator(world: World, store: ObjectStore, registry: "ModelRegistry") -> Calibrator:
    return Calibrator(EvidenceReader(store, world), registry)


def test_thresholds_are_fitted_on_val_and_reported_on_test(
    calibrator: Calibrator, world: World, store: ObjectStore, add_model: AddModel
) -> None:
    version = add_model(world.name)
    world.label("val", [THERE] * 20)
    world.label("test", [THERE] * 4)
    write(store, world.name, version, "val", [SEEN] * 20)
    # In one test image of four the dog is not seen at all.
    write(store, world.name, version, "test", [SEEN] * 3 + [SEEN[:2]])
    result = calibrator.calibrate(world.name, CalibrationCreate(), _unheard)
    assert result.model_version == version
    assert result.kept
    (component,) = result.manifest.components
    assert component.score_thresholds == pytest.approx((0.65, 0.08), abs=1e-6)
    assert result.before == OperatingPoint(f1=0.5, precision=0.5, recall=0.5)
    assert result.after == OperatingPoint(f1=14 / 15, precision=1.0, recall=7 / 8)


def test_the_manifest_is_kept_beside_its_model(
    calibrator: Calibrator, world: World, store: ObjectStore, add_model: AddModel
) -> None:
    version = add_model(world.name)
    for split in ("val", "test"):
        world.label(split, [THERE] * 12)
        write(store, world.name, version, split, [SEEN] * 12)
    result = calibrator.calibrate(world.name, CalibrationCreate(model_version=version), _unheard)
    text = calibrator.registry.calibration_json(world.name, version)
    assert text is not None
    assert CalibrationManifest.model_validate_json(text) == result.manifest
    assert result.manifest.weights_sha256 == "a" * 64
    model = calibrator.registry.get(world.name, version)
    assert "calibrated" in model.aliases
    assert model.metrics["calibration/test_f1_after"] == 1.0


def test_a_calibration_that_is_not_better_keeps_the_default(
    calibrator: Calibrator, world: World, store: ObjectStore, add_model: AddModel
) -> None:
    version = add_model(world.name)
    for split in ("val", "test"):
        world.label(split, [[(LEFT, 0)]] * 12)
        write(store, world.name, version, split, [[(LEFT, 0, 0.9)]] * 12)
    result = calibrator.calibrate(world.name, CalibrationCreate(model_version=version), _unheard)
    assert not result.kept
    assert result.before == result.after
    (component,) = result.manifest.components
    assert (component.score_thresholds, component.nms_iou) == ((0.25, 0.25), 0.7)


def test_a_split_that_was_not_scored_is_named(
    calibrator: Calibrator, world: World, store: ObjectStore, add_model: AddModel
) -> None:
    version = add_model(world.name)
    for split in ("val", "test"):
        world.label(split, [THERE] * 3)
    write(store, world.name, version, "val", [SEEN] * 2)
    with pytest.raises(NotScored) as caught:
        calibrator.calibrate(world.name, CalibrationCreate(model_version=version), _unheard)
    assert caught.value.status == 409
    assert str(caught.value) == (
        f"model version 1 of project '{world.name}' is not scored on 'val' yet: "
        "1 of 3 labelled images lack it"
    )


def test_labels_that_came_after_the_scoring_do_not_count_when_the_version_is_given(
    calibrator: Calibrator, world: World, store: ObjectStore, add_model: AddModel
) -> None:
    version = add_model(world.name)
    for split in ("val", "test"):
        world.label(split, [THERE] * 3)
        write(store, world.name, version, split, [SEEN] * 3)
    world.close_version()
    world.label("val", [THERE], first=3)
    with pytest.raises(NotScored, match="1 of 4 labelled images lack it"):
        calibrator.calibrate(world.name, CalibrationCreate(model_version=version), _unheard)
    request = CalibrationCreate(model_version=version, dataset_version=1)
    assert calibrator.calibrate(world.name, request, _unheard).model_version == version


def test_a_split_without_labels_is_named(
    calibrator: Calibrator, world: World, add_model: AddModel
) -> None:
    version = add_model(world.name)
    with pytest.raises(NotLabelled, match="has no dataset version yet"):
        calibrator.calibrate(world.name, CalibrationCreate(model_version=version), _unheard)
    world.label("train", [THERE])
    with pytest.raises(NotLabelled, match="no labelled image of split 'val'"):
        calibrator.calibrate(world.name, CalibrationCreate(model_version=version), _unheard)


def test_a_model_of_other_classes_is_refused(world: World, store: ObjectStore) -> None:
    from datetime import UTC, datetime

    from shared.models.registry import ModelView

    model = ModelView(
        project=world.name,
        version=1,
        aliases=(),
        dataset_version=1,
        round_id=None,
        classes=("dog", "cat"),
        metrics={},
        weights_sha256="a" * 64,
        run_id="r",
        run_url="",
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
    )
    world.label("val", [THERE])
    reader = EvidenceReader(store, world)
    with pytest.raises(OtherClasses, match=r"knows the classes \['dog', 'cat'\], the project has"):
        reader.read(world.manifest(world.name, 1), model, "val")


def test_a_project_without_models_is_named(calibrator: Calibrator, world: World) -> None:
    with pytest.raises(NoModel, match=f"project '{world.name}' has no model yet"):
        calibrator.calibrate(world.name, CalibrationCreate(), _unheard)
    with pytest.raises(NotFound, match="unknown model version: 3"):
        calibrator.calibrate(world.name, CalibrationCreate(model_version=3), _unheard)
