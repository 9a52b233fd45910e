"""The one typed client of the gateway, for services, CLI, dashboard and tests alike."""

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import httpx2
from pydantic import BaseModel, SecretStr, TypeAdapter

from shared.errors import AppError, BackendUnavailable, UpstreamFailed, error_classes
from shared.models.data import (
    DatasetManifest,
    DatasetVersionCreate,
    DatasetVersionView,
    Format,
    GroundTruth,
    ImagePage,
    ImageView,
    IngestionCreate,
    ProjectCreate,
    ProjectView,
    Split,
    Upload,
)
from shared.models.jobs import FINAL_STATES, JobState, JobView
from shared.models.registry import (
    AliasView,
    CalibrationCreate,
    DriftCreate,
    DriftResult,
    EvaluationCreate,
    GateCreate,
    ImagePredictions,
    ModelView,
    Prediction,
    PromotionCreate,
    ScoringCreate,
    ServingView,
    TrainingCreate,
)
from shared.models.rounds import AnswerCreate, LeaseCreate, RoundCreate, RoundView, TaskView

T = TypeVar("T")
ModelT = TypeVar("ModelT", bound=BaseModel)

IDEMPOTENT_TRIES = 4


class JobFailed(AppError):
    """A job that was waited for ended otherwise than well."""

    status = 409


class GatewayClient:
    """Typed calls of `/v1`; an error body becomes the same exception again.

    Reads are tried again when the gateway does not answer; writes are not, unless the server makes
    them idempotent by a key.
    """

    def __init__(self, base_url: str, key: SecretStr | str, timeout_s: float = 60.0) -> None:
        """Talk to the gateway at `base_url` with an API key or the service key."""
        secret = key.get_secret_value() if isinstance(key, SecretStr) else key
        self.base_url = base_url.rstrip("/")
        self._http = httpx2.Client(
            base_url=self.base_url,
            headers={"Authorization": f"Bearer {secret}"},
            timeout=httpx2.Timeout(timeout_s, connect=5.0),
            limits=httpx2.Limits(max_connections=32),
        )

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    # -- projects and images

    def create_project(self, project: ProjectCreate) -> ProjectView:
        """Create a project."""
        return self._post("/v1/projects", project, ProjectView)

    def projects(self) -> list[ProjectView]:
        """Return every project."""
        return self._get_list("/v1/projects", ProjectView)

    def project(self, name: str) -> ProjectView:
        """Return one project."""
        return self._get(f"/v1/projects/{name}", ProjectView)

    def upload(self, project: str, file: BinaryIO, *, name: str | None = None) -> Upload:
        """Send an archive or image, streamed; `name` is what a single image is then called."""
        chunks = iter(lambda: file.read(1 << 20), b"")
        response = self._send(
            "POST",
            f"/v1/projects/{project}/uploads",
            query={"name": name},
            content=chunks,
            headers={"Content-Type": "application/octet-stream"},
            timeout=600.0,
        )
        return Upload.model_validate_json(response.content)

    def ingest(self, project: str, ingestion: IngestionCreate) -> JobView:
        """Start an ingestion; its result is an IngestionReport."""
        return self._post(f"/v1/projects/{project}/ingestions", ingestion, JobView)

    def images(
        self,
        project: str,
        *,
        split: Split | None = None,
        labelled: bool | None = None,
        cursor: str | None = None,
        limit: int = 100,
        name: str | None = None,
    ) -> ImagePage:
        """Return one page of images, ordered by id."""
        query = {
            "split": split,
            "labelled": labelled,
            "cursor": cursor,
            "limit": limit,
            "name": name,
        }
        return self._get(f"/v1/projects/{project}/images", ImagePage, query)

    def iter_images(
        self, project: str, *, split: Split | None = None, labelled: bool | None = None
    ) -> Iterator[ImageView]:
        """Yield every image, ordered by id."""
        cursor: str | None = None
        while True:
            page = self.images(project, split=split, labelled=labelled, cursor=cursor, limit=500)
            yield from page.images
            cursor = page.next_cursor
            if cursor is None:
                return

    def image(self, project: str, image_id: str) -> ImageView:
        """Return one image's record."""
        return self._get(f"/v1/projects/{project}/images/{image_id}", ImageView)

    def image_content(self, project: str, image_id: str) -> bytes:
        """Return the upright image as it is trained on."""
        return self._send("GET", f"/v1/projects/{project}/images/{image_id}/content").content

    def thumbnail(self, project: str, image_id: str) -> bytes:
        """Return the image's thumbnail."""
        return self._send("GET", f"/v1/projects/{project}/images/{image_id}/thumbnail").content

    def ground_truth(self, project: str, image_id: str) -> GroundTruth:
        """Return the hidden labels of an image ingested with `as_oracle`."""
        return self._get(f"/v1/projects/{project}/images/{image_id}/ground-truth", GroundTruth)

    # -- dataset versions

    def create_dataset_version(
        self, project: str, version: DatasetVersionCreate
    ) -> DatasetVersionView:
        """Close a round into a dataset version; the same round twice gives the same version."""
        path = f"/v1/projects/{project}/dataset-versions"
        return self._post(path, version, DatasetVersionView, idempotent=True)

    def dataset_versions(self, project: str) -> list[DatasetVersionView]:
        """Return every dataset version, the oldest first."""
        return self._get_list(f"/v1/projects/{project}/dataset-versions", DatasetVersionView)

    def dataset_version(self, project: str, version: int) -> DatasetVersionView:
        """Return one dataset version."""
        path = f"/v1/projects/{project}/dataset-versions/{version}"
        return self._get(path, DatasetVersionView)

    def manifest(self, project: str, version: int) -> DatasetManifest:
        """Return a dataset version's content."""
        path = f"/v1/projects/{project}/dataset-versions/{version}/manifest"
        return self._get(path, DatasetManifest)

    def export(self, project: str, version: int, kind: Format, target: Path) -> None:
        """Write a dataset version as a zip of the given format."""
        path = f"/v1/projects/{project}/dataset-versions/{version}/export"
        self._download(path, {"format": kind}, target)

    # -- jobs

    def job(self, job_id: str) -> JobView:
        """Return one job."""
        return self._get(f"/v1/jobs/{job_id}", JobView)

    def jobs(
        self, *, project: str | None = None, state: JobState | None = None, limit: int = 100
    ) -> list[JobView]:
        """Return jobs, the newest first."""
        query = {"project": project, "state": state, "limit": limit}
        return self._get_list("/v1/jobs", JobView, query)

    def cancel_job(self, job_id: str) -> JobView:
        """Ask a job to stop."""
        return self._post(f"/v1/jobs/{job_id}/cancellation", None, JobView)

    def wait_job(
        self,
        job_id: str,
        *,
        on_change: Callable[[JobView], None] | None = None,
        timeout_s: float = 24 * 3600.0,
        poll_s: float = 0.5,
    ) -> JobView:
        """Wait until a job ends, and return it.

        Raises:
            JobFailed: it failed or was cancelled; the message has its error.
            TimeoutError: it did not end in time.
        """
        deadline = time.monotonic() + timeout_s
        last: tuple[str, float, str] | None = None
        while True:
            job = self.job(job_id)
            if (seen := (job.state, job.progress, job.message)) != last:
                last = seen
                (on_change or _ignore)(job)
            if job.state == "succeeded":
                return job
            if job.state in FINAL_STATES:
                msg = f"job {job.id!r} ({job.kind}) {job.state}: {job.error or job.message}"
                raise JobFailed(msg)
            if time.monotonic() > deadline:
                msg = f"job {job.id!r} ({job.kind}) still {job.state} after {timeout_s} s"
                raise TimeoutError(msg)
            time.sleep(poll_s)

    # -- rounds and tasks

    def create_round(self, project: str, request: RoundCreate) -> RoundView:
        """Start a round."""
        return self._post(f"/v1/projects/{project}/rounds", request, RoundView)

    def rounds(self, project: str) -> list[RoundView]:
        """Return every round, the oldest first."""
        return self._get_list(f"/v1/projects/{project}/rounds", RoundView)

    def round(self, project: str, round_id: str) -> RoundView:
        """Return one round."""
        return self._get(f"/v1/projects/{project}/rounds/{round_id}", RoundView)

    def cancel_round(self, project: str, round_id: str) -> RoundView:
        """Cancel a round."""
        path = f"/v1/projects/{project}/rounds/{round_id}/cancellation"
        return self._post(path, None, RoundView)

    def tasks(self, project: str, round_id: str) -> list[TaskView]:
        """Return a round's tasks in the order of their rank."""
        return self._get_list(f"/v1/projects/{project}/rounds/{round_id}/tasks", TaskView)

    def task(self, project: str, task_id: str) -> TaskView:
        """Return one task."""
        return self._get(f"/v1/projects/{project}/tasks/{task_id}", TaskView)

    def lease_task(self, project: str, lease: LeaseCreate) -> TaskView:
        """Return the next open task, kept for this annotator for a while."""
        return self._post(f"/v1/projects/{project}/leases", lease, TaskView)

    def answer_task(self, project: str, task_id: str, answer: AnswerCreate) -> TaskView:
        """Save an answer; the same answer twice is fine."""
        path = f"/v1/projects/{project}/tasks/{task_id}/answer"
        response = self._send("PUT", path, json=answer, idempotent=True)
        return TaskView.model_validate_json(response.content)

    # -- models

    def models(self, project: str) -> list[ModelView]:
        """Return every model version, the oldest first."""
        return self._get_list(f"/v1/projects/{project}/models", ModelView)

    def model(self, project: str, version: int) -> ModelView:
        """Return one model version."""
        return self._get(f"/v1/projects/{project}/models/{version}", ModelView)

    def aliases(self, project: str) -> AliasView:
        """Return where the serving aliases point."""
        return self._get(f"/v1/projects/{project}/aliases", AliasView)

    def train(self, project: str, training: TrainingCreate) -> JobView:
        """Start a training; its result is a TrainingResult."""
        return self._post(f"/v1/projects/{project}/trainings", training, JobView)

    def evaluate(self, project: str, evaluation: EvaluationCreate) -> JobView:
        """Start an evaluation; its result is an EvaluationResult."""
        return self._post(f"/v1/projects/{project}/evaluations", evaluation, JobView)

    def score(self, project: str, scoring: ScoringCreate) -> JobView:
        """Start a scoring; its result is a ScoringResult."""
        return self._post(f"/v1/projects/{project}/scorings", scoring, JobView)

    def reindex(self, project: str) -> JobView:
        """Rebuild the vector index from the shards."""
        return self._post(f"/v1/projects/{project}/reindexings", None, JobView)

    def calibrate(self, project: str, calibration: CalibrationCreate) -> JobView:
        """Start a calibration; its result is a CalibrationResult."""
        return self._post(f"/v1/projects/{project}/calibrations", calibration, JobView)

    def gate(self, project: str, gate: GateCreate) -> JobView:
        """Start a gate; its result is a GateVerdict."""
        return self._post(f"/v1/projects/{project}/gates", gate, JobView)

    def promote(self, project: str, promotion: PromotionCreate) -> AliasView:
        """Move the production alias by hand."""
        return self._post(f"/v1/projects/{project}/promotions", promotion, AliasView)

    def rollback(self, project: str) -> AliasView:
        """Serve the previous production model again."""
        return self._post(f"/v1/projects/{project}/rollbacks", None, AliasView)

    # -- serving and drift

    def predict(
        self, project: str, image: bytes, *, name: str = "image", batch: str | None = None
    ) -> Prediction:
        """Return what the production model sees in an image file's bytes."""
        response = self._send(
            "POST",
            f"/v1/projects/{project}/predictions",
            query={"batch": batch},
            files={"file": (name, image)},
        )
        return Prediction.model_validate_json(response.content)

    def image_predictions(
        self,
        project: str,
        image_id: str,
        model_version: int | None = None,
        min_score: float | None = None,
    ) -> ImagePredictions:
        """Return what a model version (unset: production) saw in a stored image."""
        path = f"/v1/projects/{project}/predictions/{image_id}"
        query = {"model_version": model_version, "min_score": min_score}
        return self._get(path, ImagePredictions, query)

    def serving(self, project: str) -> ServingView:
        """Return which model version is loaded for serving."""
        return self._get(f"/v1/projects/{project}/serving", ServingView)

    def drift_report(self, project: str, drift: DriftCreate) -> JobView:
        """Start a drift report; its result is a DriftResult."""
        return self._post(f"/v1/projects/{project}/drift-reports", drift, JobView)

    def drift_reports(self, project: str) -> list[DriftResult]:
        """Return every drift report, the oldest first."""
        return self._get_list(f"/v1/projects/{project}/drift-reports", DriftResult)

    def drift_html(self, project: str, report_id: str) -> bytes:
        """Return a drift report as a page."""
        path = f"/v1/projects/{project}/drift-reports/{report_id}/html"
        return self._send("GET", path).content

    # -- plumbing

    def _get(
        self, path: str, model: type[ModelT], query: Mapping[str, Any] | None = None
    ) -> ModelT:
        return model.model_validate_json(self._send("GET", path, query=query).content)

    def _get_list(
        self, path: str, model: type[ModelT], query: Mapping[str, Any] | None = None
    ) -> list[ModelT]:
        content = self._send("GET", path, query=query).content
        return TypeAdapter(list[model]).validate_json(content)  # type: ignore[valid-type]

    def _post(
        self, path: str, body: BaseModel | None, model: type[ModelT], *, idempotent: bool = False
    ) -> ModelT:
        response = self._send("POST", path, json=body, idempotent=idempotent)
        return model.model_validate_json(response.content)

    def _download(self, path: str, query: Mapping[str, Any], target: Path) -> None:
        partial = target.with_name(target.name + ".part")
        try:
            with self._http.stream("GET", path, params=_given(query), timeout=600.0) as response:
                if response.is_error:
                    response.read()
                    raise error_from(response)
                with partial.open("wb") as file:
                    for chunk in response.iter_bytes():
                        file.write(chunk)
        except httpx2.TransportError as exc:
            msg = f"gateway ({self.base_url}): {type(exc).__name__}: {exc}"
            raise BackendUnavailable(msg) from exc
        partial.replace(target)

    def _send(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        json: BaseModel | None = None,
        idempotent: bool = False,
        **kwargs: Any,
    ) -> httpx2.Response:
        if json is not None:
            kwargs["content"] = json.model_dump_json()
            kwargs["headers"] = {"Content-Type": "application/json"}
        tries = IDEMPOTENT_TRIES if method == "GET" or idempotent else 1
        for attempt in range(1, tries + 1):
            try:
                response = self._http.request(method, path, params=_given(query), **kwargs)
            except httpx2.TransportError as exc:
                if attempt == tries:
                    msg = f"gateway ({self.base_url}): {type(exc).__name__}: {exc}"
                    raise BackendUnavailable(msg) from exc
            else:
                if not response.is_error:
                    return response
                if response.status_code != 503 or attempt == tries:
                    raise error_from(response)
            time.sleep(0.25 * 2**attempt)
        raise AssertionError  # the loop returns or raises


def error_from(response: httpx2.Response) -> AppError:
    """Return the exception that an error answer stands for."""
    try:
        body = response.json()
        name, detail = str(body["error"]), str(body["detail"])
    except (ValueError, KeyError, TypeError):
        return UpstreamFailed(f"{response.status_code} from {response.url}: {response.text[:200]}")
    known = error_classes().get(name)
    if known is not None:
        return known(detail)
    by_status = {
        c.status: c for c in error_classes().values() if c.__module__ == AppError.__module__
    }
    return by_status.get(response.status_code, UpstreamFailed)(detail)


def _ignore(job: JobView) -> None:
    del job


def _given(query: Mapping[str, Any] | None) -> dict[str, Any]:
    return {name: value for name, value in (query or {}).items() if value is not None}
