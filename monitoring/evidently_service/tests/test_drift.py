"""Drift reports on synthetic predictions, by the real Evidently."""

import json
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import ks_2samp

from monitoring.evidently_service.app.services.columns import make_tables
from monitoring.evidently_service.app.services.drift import (
    DriftJob,
    DriftReporter,
    NoProductionModel,
    TooFewImages,
)
from monitoring.evidently_service.app.services.report import FAMILY_ALPHA
from monitoring.evidently_service.tests.data import (
    CLASSES,
    PROJECT,
    START,
    RegisteredModels,
    fill,
    scored_images,
    serve,
    served,
    store_in,
)
from shared.models.registry import DriftCreate, DriftResult
from shared.objects.port import ObjectStore

COLUMNS = (
    *("n_boxes", "mean_score", "max_score", "mean_box_area", "mean_entropy"),
    *("brightness", "contrast", "sharpness", "class_one", "class_two", "class_three"),
    "class_four",
    *("embedding_1", "embedding_2", "embedding_3"),
)


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    store = store_in(tmp_path)
    fill(store, 3)
    return store


def report(
    store: ObjectStore, request: DriftCreate, models: RegisteredModels | None = None
) -> DriftResult:
    reporter = DriftReporter(store, models or RegisteredModels())
    return reporter.create(DriftJob("r1", PROJECT, request), lambda _fraction, _message: None)


@pytest.mark.parametrize("n", [60, 100])
def test_an_unshifted_batch_flags_nothing(store: ObjectStore, n: int) -> None:
    serve(store, 3, scored_images(n, 101), "same")
    result = report(store, DriftCreate(batch="same"))
    assert result.drifted_columns == ()
    assert (result.n_reference, result.n_current, result.model_version) == (180, n, 3)
    assert tuple(result.columns) == COLUMNS
    assert result.threshold == pytest.approx(0.01 / 15)


def test_a_shifted_batch_is_flagged_by_what_changed_and_the_report_says_so(
    store: ObjectStore,
) -> None:
    serve(store, 3, scored_images(60, 102, shift=1.0), "dark")
    result = report(store, DriftCreate(batch="dark"))
    assert {"brightness", "embedding_1"} <= set(result.drifted_columns)
    assert not {"contrast", "n_boxes", "sharpness"} & set(result.drifted_columns)
    assert (result.html_key, result.json_key) == (
        "projects/digits/drift/r1.html",
        "projects/digits/drift/r1.json",
    )
    page = store.get(result.html_key).decode()
    assert "digits, model version 3: 60 served against 180 held-out images" in page
    stored = json.loads(store.get(result.json_key))
    assert stored["result"]["drifted_columns"] == list(result.drifted_columns)
    assert stored["request"]["batch"] == "dark"
    assert stored["evidently"]["metrics"][0]["value"]["count"] == len(result.drifted_columns)


def test_too_few_served_predictions_are_refused_with_their_number(store: ObjectStore) -> None:
    serve(store, 3, scored_images(19, 103), "few")
    with pytest.raises(TooFewImages) as caught:
        report(store, DriftCreate(batch="few"))
    assert str(caught.value) == (
        "19 served predictions of batch 'few' of model version 3 of project 'digits' in this "
        "window; at least 20 are needed"
    )


def test_a_model_that_never_scored_the_held_out_images_is_refused(store: ObjectStore) -> None:
    serve(store, 4, scored_images(20, 104), "b")
    with pytest.raises(TooFewImages, match=r"^0 held-out images scored by model version 4 "):
        report(store, DriftCreate(), RegisteredModels(production=4))


def test_without_a_production_model_there_is_nothing_to_compare(store: ObjectStore) -> None:
    with pytest.raises(NoProductionModel, match=r"^no production model in project 'digits'$"):
        report(store, DriftCreate(), RegisteredModels(production=None))


def test_only_the_newest_predictions_of_the_window_count(store: ObjectStore) -> None:
    serve(store, 3, scored_images(50, 105), "b")
    request = DriftCreate(since=START + timedelta(seconds=10), max_predictions=25)
    assert report(store, request).n_current == 25


def test_unchanged_images_are_flagged_in_about_one_report_of_a_hundred() -> None:
    rows = [s.row for s in served(scored_images(500, 7))]
    rng = np.random.default_rng(7)
    n_flagged = 0
    for _ in range(60):
        order = rng.permutation(len(rows))
        reference, current = [rows[i] for i in order[:180]], [rows[i] for i in order[180:260]]
        tables = make_tables(reference, current, CLASSES)
        p_values = [
            ks_2samp(tables.reference[name].dropna(), tables.current[name]).pvalue
            for name in tables.columns
        ]
        n_flagged += min(p_values) <= FAMILY_ALPHA / len(p_values)
    # P(more than 3 | rate 0.01) is 0.003.
    assert n_flagged <= 3
