import math
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from shared.database import utcnow
from shared.detector.package import load_package
from shared.models.data import DatasetManifest
from shared.models.jobs import JobView
from shared.models.registry import (
    CalibrationManifest,
    EvaluationCreate,
    ModelCopy,
    TrainingCreate,
)
from shared.objects.directory import DirectoryStore
from shared.registry import ModelRegistry, UnknownModel
from shared.settings import Settings
from training_service.app.services.copies import OtherClasses, copy_model
from training_service.app.services.materialise import NoLabelledImages
from training_service.app.services.training import Training
from training_service.tests.data import TINY, Datasets, tiny_manifest


@pytest.fixture
def project() -> str:
    return f"tiny-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def training(
    mlflow_url: str, manifest: DatasetManifest, store: DirectoryStore, project: str, tmp_path: Path
) -> Training:
    datasets = Datasets()
    datasets.add(manifest.model_copy(update={"project": project}))
    settings = Settings(state_dir=tmp_path / "state", mlflow_url=mlflow_url, threads=1)
    return Training(settings, store, datasets, ModelRegistry(mlflow_url))


def job(project: str, payload: TrainingCreate | EvaluationCreate, kind: str) -> JobView:
    fields: dict[str, Any] = dict.fromkeys(
        ("round_id", "step", "result", "error", "started_at", "finished_at", "seconds")
    )
    return JobView(
        id=uuid.uuid4().hex,
        kind=f"training.{kind}",
        project=project,
        state="running",
        progress=0,
        message="",
        attempts=1,
        max_attempts=3,
        cancel_requested=False,
        payload=payload.model_dump(mode="json"),
        created_at=utcnow(),
        **fields,
    )


def nothing(fraction: float, message: str) -> None:
    assert 0 <= fraction <= 1
    assert message


def test_a_training_makes_one_measured_model_version_however_often_it_runs(
    training: Training, project: str, tmp_path: Path
) -> None:
    request = TrainingCreate(dataset_version=1, params=TINY, round_id="r1")
    this = job(project, request, "train")
    result = training.train(this, nothing)
    again = training.train(this, nothing)
    assert again == result
    assert result.model_version == 1
    assert result.dataset_version == 1
    assert result.n_iterations == 4
    assert set(result.metrics) == {"val", "test"}
    assert set(result.metrics["test"].per_class_map50) == {"square", "disc"}
    assert result.metrics["test"].n_images == 2
    assert all(math.isfinite(metrics.map50_95) for metrics in result.metrics.values())
    models = training.registry.list(project)
    assert [model.version for model in models] == [1]
    assert models[0].aliases == ("candidate",)
    assert models[0].round_id == "r1"
    assert models[0].metrics["train/box_loss"] > 0
    _, info = load_package(training.registry.download(project, 1, tmp_path / "copy"))
    assert info.weights_sha256 == result.weights_sha256
    assert info.dropout == 0.1
    assert not (training.settings.state_dir / "work" / this.id).exists()
    evaluate_again(training, project, result.metrics["test"].map50)


def evaluate_again(training: Training, project: str, map50: float) -> None:
    request = EvaluationCreate(model_version=1)
    result = training.evaluate(job(project, request, "evaluate"), nothing)
    assert result.dataset_version == 1
    assert result.split == "test"
    assert result.metrics.map50 == pytest.approx(map50, abs=1e-4)


def test_a_training_goes_on_from_a_model_of_the_project(
    training: Training, project: str, tmp_path: Path
) -> None:
    first = TrainingCreate(dataset_version=1, params=TINY)
    training.train(job(project, first, "train"), nothing)
    still = {"base": "model:1", "iterations": 1, "learning_rate": 1e-9}
    again = TrainingCreate(dataset_version=1, params=TINY.model_copy(update=still))
    assert training.train(job(project, again, "train"), nothing).model_version == 2
    one, other = (
        load_package(training.registry.download(project, version, tmp_path / str(version)))
        for version in (1, 2)
    )
    assert other[1].base == "model:1"
    weights = dict(one[0].named_parameters())
    for name, value in other[0].named_parameters():
        torch.testing.assert_close(value, weights[name], rtol=0, atol=1e-4)


def test_a_training_from_an_unknown_version_names_it(training: Training, project: str) -> None:
    params = TINY.model_copy(update={"base": "model:7"})
    this = job(project, TrainingCreate(dataset_version=1, params=params), "train")
    with pytest.raises(UnknownModel, match="unknown model version: 7"):
        training.train(this, nothing)


def test_a_model_is_copied_once_into_a_project_with_the_same_classes(
    training: Training, manifest: DatasetManifest, project: str, tmp_path: Path
) -> None:
    result = training.train(
        job(project, TrainingCreate(dataset_version=1, params=TINY), "train"), nothing
    )
    target = f"{project}-copy"
    datasets, registry = training.datasets, training.registry
    assert isinstance(datasets, Datasets)
    datasets.add(manifest.model_copy(update={"project": target}))
    request = ModelCopy(source_project=project, model_version=1)
    with ThreadPoolExecutor(3) as pool:
        copies = list(pool.map(lambda _: copy_model(registry, datasets, target, request), range(3)))
    assert copies == [copies[0]] * 3
    copied = copies[0]
    assert (copied.project, copied.version, copied.aliases) == (target, 1, ("candidate",))
    assert (copied.dataset_version, copied.round_id) == (None, None)
    assert copied.weights_sha256 == result.weights_sha256
    assert copied.metrics == registry.get(project, 1).metrics
    assert [model.version for model in registry.list(target)] == [1]
    _, info = load_package(registry.download(target, 1, tmp_path / "copy"))
    assert info.weights_sha256 == result.weights_sha256
    calibrate_only(registry, target, project)


def calibrate_only(registry: ModelRegistry, target: str, project: str) -> None:
    calibration = CalibrationManifest(
        project=target, model_version=1, weights_sha256="0" * 64, components=()
    )
    registry.log_calibration(target, 1, calibration)
    assert registry.calibration_json(project, 1) is None


def test_a_model_of_other_classes_is_not_copied(
    training: Training, manifest: DatasetManifest, project: str
) -> None:
    training.train(job(project, TrainingCreate(dataset_version=1, params=TINY), "train"), nothing)
    datasets = training.datasets
    assert isinstance(datasets, Datasets)
    datasets.add(manifest.model_copy(update={"project": "other", "classes": ("disc", "square")}))
    request = ModelCopy(source_project=project, model_version=1)
    with pytest.raises(OtherClasses, match=r"finds \['square', 'disc'\], .* are \['disc', 'square"):
        copy_model(training.registry, datasets, "other", request)
    assert training.registry.list("other") == []
    with pytest.raises(UnknownModel, match=f"unknown model version: 7 of project '{project}'"):
        copy_model(
            training.registry, datasets, "other", request.model_copy(update={"model_version": 7})
        )


def test_a_job_killed_before_registering_does_not_train_again(
    training: Training, project: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    this = job(project, TrainingCreate(dataset_version=1, params=TINY), "train")

    class Killed(Exception):
        pass

    def killed(self: ModelRegistry, model: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(ModelRegistry, "register", killed)
        with pytest.raises(Killed):
            training.train(this, nothing)
    outcome = training.settings.state_dir / "work" / this.id / "outcome.json"
    written_at = outcome.stat().st_mtime_ns
    messages: list[str] = []
    result = training.train(this, lambda fraction, message: messages.append(message))
    assert messages == ["registering the model"]
    assert result.model_version == 1
    assert written_at
    assert [model.version for model in training.registry.list(project)] == [1]


def test_splits_without_labelled_images_are_left_out(
    training: Training, store: DirectoryStore, project: str
) -> None:
    manifest = tiny_manifest(store, ("train", "train", "gate"))
    assert isinstance(training.datasets, Datasets)
    training.datasets.add(manifest.model_copy(update={"project": project}))
    result = training.train(
        job(project, TrainingCreate(dataset_version=2, params=TINY), "train"), nothing
    )
    assert result.metrics == {}
    request = EvaluationCreate(model_version=1)
    with pytest.raises(NoLabelledImages, match="split 'test' of dataset version 2"):
        training.evaluate(job(project, request, "evaluate"), nothing)


def test_measuring_an_unknown_model_names_it(training: Training, project: str) -> None:
    request = EvaluationCreate(model_version=7)
    with pytest.raises(UnknownModel, match="unknown model version: 7"):
        training.evaluate(job(project, request, "evaluate"), nothing)


def test_a_forgotten_job_leaves_nothing(training: Training, project: str) -> None:
    this = job(project, TrainingCreate(dataset_version=1), "train")
    work = training.settings.state_dir / "work" / this.id
    work.mkdir(parents=True)
    (work / "checkpoint.pt").write_bytes(b"x")
    training.forget(this)
    assert not work.exists()
