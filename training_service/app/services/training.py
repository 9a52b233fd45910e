"""The jobs of this service: train a model and register it, measure a registered one."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from shared.bases import own_version
from shared.models.data import DatasetManifest
from shared.models.jobs import JobView
from shared.models.registry import (
    EvaluationCreate,
    EvaluationResult,
    ModelView,
    TrainingCreate,
    TrainingResult,
)
from shared.objects.port import ObjectStore
from shared.registry import ModelRegistry, Registration
from shared.settings import Settings
from training_service.app.services.child import run_child
from training_service.app.services.materialise import (
    NoLabelledImages,
    labelled_splits,
    materialise,
)
from training_service.app.services.ports import DatasetReader
from training_service.app.services.results import flat_metrics, result_of
from training_service.app.services.specs import (
    HEAD_DROPOUT,
    EvaluateOutcome,
    EvaluateSpec,
    TrainOutcome,
    TrainSpec,
)

OnProgress = Callable[[float, str], None]
# Registering takes seconds; the child reports the share before it.
CHILD_SHARE = 0.95


@dataclass(frozen=True)
class Training:
    """Trains and measures; a job that runs again goes on where it was."""

    settings: Settings
    store: ObjectStore
    datasets: DatasetReader
    registry: ModelRegistry

    def train(self, job: JobView, on_progress: OnProgress) -> TrainingResult:
        """Train on a dataset version and register the model as `candidate`.

        There is one model version per job, however often it is killed and runs again.

        Raises:
            NoLabelledImages: the dataset version has no labelled train images.
            ChildFailed: the training process ended with an error.
        """
        work = self._work(job)
        model = self.registry.find_by_job(job.project, job.id)
        if model is None:
            model = self._train_and_register(job, work, on_progress)
        # Also for a job that was killed between the version and its alias.
        self.registry.set_alias(job.project, "candidate", model.version)
        shutil.rmtree(work, ignore_errors=True)
        return result_of(model)

    def evaluate(self, job: JobView, on_progress: OnProgress) -> EvaluationResult:
        """Measure a registered model on one split of a dataset version.

        Raises:
            UnknownModel: the project has no such model version.
            NoLabelledImages: the split has no labelled images.
            ChildFailed: the measuring process ended with an error.
        """
        request = EvaluationCreate.model_validate(job.payload)
        version = request.dataset_version or self._newest(job.project)
        manifest = self.datasets.manifest(job.project, version)
        if request.split not in labelled_splits(manifest):
            msg = f"no labelled images in split {request.split!r} of dataset version {version}"
            raise NoLabelledImages(msg)
        work = self._work(job)
        spec = EvaluateSpec(
            data_yaml=self._materialise(manifest),
            work=work,
            package=self.registry.download(job.project, request.model_version, work),
            split=request.split,
            threads=self.settings.threads,
        )
        outcome = EvaluateOutcome.model_validate_json(self._run(spec, on_progress))
        shutil.rmtree(work)
        return EvaluationResult(
            project=job.project,
            model_version=request.model_version,
            dataset_version=version,
            split=request.split,
            metrics=outcome.metrics,
        )

    def forget(self, job: JobView) -> None:
        """Remove what a job left to go on from; it will not run again."""
        shutil.rmtree(self._work(job), ignore_errors=True)

    def _train_and_register(self, job: JobView, work: Path, on_progress: OnProgress) -> ModelView:
        request = TrainingCreate.model_validate(job.payload)
        manifest = self.datasets.manifest(job.project, request.dataset_version)
        present = labelled_splits(manifest)
        spec = TrainSpec(
            data_yaml=self._materialise(manifest),
            work=work,
            classes=manifest.classes,
            params=request.params,
            base=request.params.base or self.settings.base_model,
            base_package=self._own_base(job.project, request.params.base, work),
            downloads=self.settings.base_models_dir,
            # The passes drop as many channels as the training did, and some where it did none.
            dropout=request.params.dropout or HEAD_DROPOUT,
            # Test is only reported; val is what calibration fits on, and gate is not looked at.
            evaluate=tuple(s for s in ("val", "test") if s in present),
            threads=self.settings.threads,
        )
        outcome = TrainOutcome.model_validate_json(self._run(spec, on_progress))
        on_progress(CHILD_SHARE, "registering the model")
        return self.registry.register(_registration(job, request, manifest, spec, outcome))

    def _own_base(self, project: str, base: str | None, work: Path) -> Path | None:
        """Return the package of `model:N`, downloaded; None where the base is no own model.

        Raises:
            UnknownModel: the project has no such version.
        """
        version = own_version(base or "")
        if version is None:
            return None
        folder = work / "base"
        folder.mkdir(parents=True, exist_ok=True)
        return self.registry.download(project, version, folder)

    def _run(self, spec: TrainSpec | EvaluateSpec, on_progress: OnProgress) -> bytes:
        def scaled(fraction: float, message: str) -> None:
            on_progress(fraction * CHILD_SHARE, message)

        return run_child(spec, scaled)

    def _materialise(self, manifest: DatasetManifest) -> Path:
        return materialise(manifest, self.store, (self.settings.cache_dir / "datasets").resolve())

    def _work(self, job: JobView) -> Path:
        return (self.settings.state_dir / "work" / job.id).resolve()

    def _newest(self, project: str) -> int:
        versions = self.datasets.dataset_versions(project)
        if not versions:
            msg = f"project {project!r} has no dataset version"
            raise NoLabelledImages(msg)
        return versions[-1].version


def _registration(
    job: JobView,
    request: TrainingCreate,
    manifest: DatasetManifest,
    spec: TrainSpec,
    outcome: TrainOutcome,
) -> Registration:
    return Registration(
        project=job.project,
        job_id=job.id,
        package=spec.package,
        classes=manifest.classes,
        weights_sha256=outcome.weights_sha256,
        dataset_version=request.dataset_version,
        dataset_hash=manifest.content_hash(),
        round_id=request.round_id or job.round_id,
        params=request.params.model_dump()
        | {"base": spec.base, "precision": outcome.precision}
        | {"dropout": spec.training_dropout, "dropout_of_passes": spec.dropout}
        | {"n_train_images": sum(item.split == "train" for item in manifest.items)},
        metrics=flat_metrics(outcome, manifest.classes),
        history={f"train/{name}": losses for name, losses in outcome.history.items()},
        artifacts=tuple(sorted(spec.plots.iterdir())),
    )
