"""Everything about a model lives in MLflow; this is the one place that talks to it.

A registered model is named after its project. Serving state is kept in aliases (stages are
deprecated): `candidate`, `calibrated`, `production`, `previous`.
"""

import hashlib
import json
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import httpx2
from pydantic import ValidationError

from shared.errors import AppError, BackendUnavailable, NotFound, UpstreamFailed
from shared.models.registry import Alias, CalibrationManifest, EngineChoice, ModelView
from shared.projects import check_project_name

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

PACKAGE = "model"
CALIBRATION = "calibration/manifest.json"
TAG_JOB = "fovea.job_id"
TAG_ENGINE = "fovea.engine."


class UnknownModel(NotFound):
    """The project has no such model version."""


@dataclass(frozen=True)
class Registration:
    """What is known of a model when it is registered."""

    project: str
    job_id: str
    package: Path
    classes: Sequence[str]
    weights_sha256: str
    dataset_version: int | None
    dataset_hash: str
    round_id: str | None
    params: Mapping[str, Any]
    metrics: Mapping[str, float]
    history: Mapping[str, Sequence[float]]
    artifacts: Sequence[Path] = ()


class ModelRegistry:
    """Models of all projects, in an MLflow server."""

    def __init__(self, mlflow_url: str, public_url: str | None = None) -> None:
        """Talk to the server at `mlflow_url`; nothing is asked before the first call.

        Links for people start with `public_url`, where that differs.
        """
        self.url = mlflow_url.rstrip("/")
        self._once = threading.Lock()
        self._registering = threading.Lock()
        self._public_url = (public_url or mlflow_url).rstrip("/")

    @cached_property
    def _client(self) -> "MlflowClient":
        # Its import takes 3 s, which a dozen processes would pay at start.
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
        from mlflow import MlflowClient

        return MlflowClient(tracking_uri=self.url, registry_uri=self.url)

    def check(self) -> None:
        """Ask the server for an answer.

        Raises:
            BackendUnavailable: it gives none.
        """
        try:
            # Not /health, which answers 200 even where the server refuses this Host.
            answer = httpx2.post(
                f"{self.url}/api/2.0/mlflow/experiments/search", json={"max_results": 1}, timeout=5
            )
        except httpx2.TransportError as exc:
            msg = f"MLflow ({self.url}): {exc}"
            raise BackendUnavailable(msg) from exc
        if answer.is_error:
            msg = f"MLflow ({self.url}): {answer.status_code} {answer.text[:200]}"
            raise BackendUnavailable(msg)

    def register(self, model: Registration) -> ModelView:
        """Log a run with everything about the model and register it; one version per job id.

        A job that was killed half-way and runs again gets the version it made before, if any.
        """
        # Two requests for one id would both find nothing and make a version each.
        with self._registering, self._named():
            run_id = self._run_of(model)
            found = self._version_of_run(model.project, run_id)
            if found is None:
                self._log_run(run_id, model)
                self._ensure_registered_model(model.project)
                tags = {
                    TAG_JOB: model.job_id,
                    "classes": json.dumps(list(model.classes)),
                    "weights_sha256": model.weights_sha256,
                    "dataset_version": _number(model.dataset_version),
                    "dataset_hash": model.dataset_hash,
                    "round_id": model.round_id or "",
                }
                # The version is made last: whoever sees it can download it.
                with self._sent_once():
                    found = self._client.create_model_version(
                        model.project, f"runs:/{run_id}/{PACKAGE}", run_id=run_id, tags=tags
                    )
            self._client.set_registered_model_alias(model.project, "candidate", found.version)
            return self.get(model.project, int(found.version))

    def find_by_job(self, project: str, job_id: str) -> ModelView | None:
        """Return the version that a training job registered, if it did."""
        with self._named():
            wanted = f"{_of(project)} and tags.`{TAG_JOB}` = '{job_id}'"
            found = self._client.search_model_versions(wanted)
            return self._view(found[0], self.aliases(project)) if found else None

    def get(self, project: str, version: int) -> ModelView:
        """Return one version.

        Raises:
            UnknownModel: the project has no such version.
        """
        with self._named(unknown=f"unknown model version: {version} of project {project!r}"):
            found = self._client.get_model_version(project, str(version))
            return self._view(found, self.aliases(project))

    def list(self, project: str) -> list[ModelView]:
        """Return every version of the project, the oldest first.

        Raises:
            NotFound: no project can have this name.
        """
        with self._named():
            found = self._client.search_model_versions(_of(project), max_results=10_000)
            aliases = self.aliases(project)
            return sorted((self._view(v, aliases) for v in found), key=lambda m: m.version)

    def aliases(self, project: str) -> dict[str, int]:
        """Return the version that each alias points to; empty for a project without models.

        Raises:
            NotFound: no project can have this name.
        """
        from mlflow.exceptions import MlflowException

        check_project_name(project)
        with self._named():
            try:
                model = self._client.get_registered_model(project)
            except MlflowException as exc:
                if exc.error_code == "RESOURCE_DOES_NOT_EXIST":
                    return {}
                raise
            return {alias: int(version) for alias, version in model.aliases.items()}

    def set_alias(self, project: str, alias: Alias, version: int) -> None:
        """Point an alias to a version.

        Raises:
            UnknownModel: the project has no such version.
        """
        with self._named(unknown=f"unknown model version: {version} of project {project!r}"):
            self._client.set_registered_model_alias(project, alias, str(version))

    def delete_alias(self, project: str, alias: Alias) -> None:
        """Take an alias away."""
        with self._named():
            self._client.delete_registered_model_alias(project, alias)

    def download(self, project: str, version: int, folder: Path) -> Path:
        """Download a version's model package below `folder` and return where it lies.

        Raises:
            UnknownModel: the project has no such version.
        """
        model = self.get(project, version)
        with self._named():
            from mlflow.artifacts import download_artifacts

            path = download_artifacts(
                artifact_uri=f"runs:/{model.run_id}/{PACKAGE}",
                dst_path=str(folder),
                tracking_uri=self.url,
            )
        return Path(path)

    def log_calibration(self, project: str, version: int, manifest: CalibrationManifest) -> None:
        """Keep a calibration beside its model and point `calibrated` to it."""
        model = self.get(project, version)
        with self._named():
            self._client.log_text(model.run_id, manifest.model_dump_json(indent=2), CALIBRATION)
            self._client.set_model_version_tag(project, str(version), "calibrated", "true")
        self.set_alias(project, "calibrated", version)

    def calibration_json(self, project: str, version: int) -> str | None:
        """Return a version's calibration manifest as it was written, or None if it has none."""
        with self._named(unknown=f"unknown model version: {version} of project {project!r}"):
            found = self._client.get_model_version(project, str(version))
            if found.tags.get("calibrated") != "true":
                return None
            with TemporaryDirectory() as folder:
                path = self._client.download_artifacts(found.run_id, CALIBRATION, folder)
                return Path(path).read_text()

    def log_engine(self, project: str, version: int, choice: EngineChoice) -> None:
        """Keep which engine computes a version on one kind of machine.

        Raises:
            UnknownModel: the project has no such version.
        """
        machine = hashlib.sha256(choice.machine.encode()).hexdigest()[:12]
        with self._named(unknown=f"unknown model version: {version} of project {project!r}"):
            self._client.set_model_version_tag(
                project, str(version), f"{TAG_ENGINE}{machine}", choice.model_dump_json()
            )

    def log_metrics(self, project: str, version: int, metrics: Mapping[str, float]) -> None:
        """Add metrics to a model's run."""
        from mlflow.entities import Metric
        from mlflow.utils.time import get_current_time_millis

        model = self.get(project, version)
        now = get_current_time_millis()
        with self._named():
            self._client.log_batch(
                model.run_id, metrics=[Metric(k, float(v), now, 0) for k, v in metrics.items()]
            )

    def _run_of(self, model: Registration) -> str:
        experiment = self._ensure_experiment(model.project)
        runs = self._client.search_runs([experiment], f"tags.`{TAG_JOB}` = '{model.job_id}'")
        if runs:
            return str(runs[0].info.run_id)
        tags = {TAG_JOB: model.job_id, "fovea.round_id": model.round_id or ""}
        with self._sent_once():
            return str(self._client.create_run(experiment, tags=tags).info.run_id)

    def _version_of_run(self, project: str, run_id: str) -> "ModelVersion | None":
        found = self._client.search_model_versions(_of(project), max_results=10_000)
        return next((v for v in found if v.run_id == run_id), None)

    def _log_run(self, run_id: str, model: Registration) -> None:
        from mlflow.entities import Metric, Param, RunTag
        from mlflow.utils.time import get_current_time_millis

        now = get_current_time_millis()
        metrics = [
            *(Metric(name, float(value), now, 0) for name, value in model.metrics.items()),
            *(
                Metric(name, float(value), now, step)
                for name, values in model.history.items()
                for step, value in enumerate(values, start=1)
            ),
        ]
        # A request holds at most 1000 metrics.
        for first in range(0, len(metrics), 1000):
            self._client.log_batch(run_id, metrics=metrics[first : first + 1000])
        self._client.log_batch(
            run_id,
            params=[Param(name, str(value)) for name, value in model.params.items()],
            tags=[
                RunTag("dataset_version", _number(model.dataset_version)),
                RunTag("dataset_hash", model.dataset_hash),
            ],
        )
        self._client.log_artifacts(run_id, str(model.package), PACKAGE)
        for path in model.artifacts:
            self._client.log_artifact(run_id, str(path))
        self._client.set_terminated(run_id)

    def _ensure_experiment(self, project: str) -> str:
        from mlflow.exceptions import MlflowException

        found = self._client.get_experiment_by_name(project)
        if found is not None:
            return str(found.experiment_id)
        try:
            return str(self._client.create_experiment(project))
        except MlflowException as exc:
            found = self._client.get_experiment_by_name(project)
            if exc.error_code != "RESOURCE_ALREADY_EXISTS" or found is None:
                raise
            return str(found.experiment_id)

    def _ensure_registered_model(self, project: str) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self._client.create_registered_model(project)
        except MlflowException as exc:
            if exc.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    def _view(self, version: "ModelVersion", aliases: Mapping[str, int]) -> ModelView:
        run = self._client.get_run(version.run_id)
        tags = version.tags
        return ModelView(
            project=version.name,
            version=int(version.version),
            aliases=tuple(sorted(a for a, v in aliases.items() if v == int(version.version))),
            dataset_version=int(tags["dataset_version"]) if tags.get("dataset_version") else None,
            round_id=tags.get("round_id") or None,
            classes=tuple(json.loads(tags.get("classes", "[]"))),
            metrics=dict(run.data.metrics),
            weights_sha256=tags.get("weights_sha256", ""),
            run_id=version.run_id,
            run_url=f"{self._public_url}/#/experiments/{run.info.experiment_id}/runs/{version.run_id}",
            created_at=datetime.fromtimestamp(version.creation_timestamp / 1000, tz=UTC),
            engines=tuple(_engines(tags)),
        )

    @contextmanager
    def _sent_once(self) -> Iterator[None]:
        """Send requests without retries: what the server did and could not answer, it did twice.

        MLflow retries POST requests too, and reads how often from the environment at each request.
        """
        name = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
        with self._once:
            before = os.environ.get(name)
            os.environ[name] = "0"
            try:
                yield
            finally:
                if before is None:
                    del os.environ[name]
                else:
                    os.environ[name] = before

    @contextmanager
    def _named(self, unknown: str | None = None) -> Iterator[None]:
        """Turn MLflow's errors into ours: unknown things by name, a dead server as unavailable.

        What it refuses it will refuse again: that is no reason to wait.
        """
        from mlflow.exceptions import MlflowException

        try:
            yield
        except MlflowException as exc:
            missing = {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}
            if unknown is not None and exc.error_code in missing:
                raise UnknownModel(unknown) from exc
            raise self._failed(exc.message, exc.get_http_status_code()) from exc
        except OSError as exc:
            # Of files that MLflow sends and fetches by itself; one without an answer has no status.
            status = getattr(getattr(exc, "response", None), "status_code", 503)
            raise self._failed(str(exc), status) from exc

    def _failed(self, reason: str, status: int) -> AppError:
        passing = status >= 500 or status == httpx2.codes.TOO_MANY_REQUESTS
        return (BackendUnavailable if passing else UpstreamFailed)(f"MLflow ({self.url}): {reason}")


def _engines(tags: Mapping[str, str]) -> Iterator[EngineChoice]:
    for key, value in sorted(tags.items()):
        if key.startswith(TAG_ENGINE):
            # Written by another release, or by hand: people alone read it.
            with suppress(ValidationError):
                yield EngineChoice.model_validate_json(value)


def _of(project: str) -> str:
    """Return the filter of a project's models; MLflow's language has no escape for quotes."""
    return f"name='{check_project_name(project)}'"


def _number(value: int | None) -> str:
    return "" if value is None else str(value)
