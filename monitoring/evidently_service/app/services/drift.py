"""The drift task: held-out images against served ones, as the production model saw both."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from monitoring.evidently_service.app.models.schemas import StoredReport
from monitoring.evidently_service.app.services.reports import html_key, json_key
from shared.database import utcnow
from shared.errors import BadRequest, Conflict
from shared.models.registry import CalibrationManifest, DriftCreate, DriftResult, ModelView
from shared.objects.port import ObjectStore
from shared.predictions import read_shards
from shared.served import DriftRow, Window, drift_row, read_served
from shared.thresholds import Thresholds

MIN_PREDICTIONS = 20

Progress = Callable[[float, str], None]


class NoProductionModel(Conflict):
    """The project has no production model, so nothing was served that could drift."""


class TooFewImages(BadRequest):
    """Too few images to compare; the message says how many there are."""


class Models(Protocol):
    """What is asked of the model registry."""

    def aliases(self, project: str) -> Mapping[str, int]:
        """Return the version that each alias points to."""

    def get(self, project: str, version: int) -> ModelView:
        """Return one version."""

    def calibration_json(self, project: str, version: int) -> str | None:
        """Return a version's calibration manifest, if it has one."""


@dataclass(frozen=True)
class DriftJob:
    """What to report on; the report's id is the job's."""

    report_id: str
    project: str
    request: DriftCreate


class DriftReporter:
    """Makes drift reports."""

    def __init__(self, store: ObjectStore, models: Models) -> None:
        """Read predictions from `store` and write reports there; ask `models` about models."""
        self._store = store
        self._models = models

    def create(self, job: DriftJob, progress: Progress) -> DriftResult:
        """Compare, and write the report as HTML and JSON.

        Raises:
            NoProductionModel: the project has none.
            TooFewImages: fewer than `MIN_PREDICTIONS` served predictions, or held-out images.
        """
        from monitoring.evidently_service.app.services.columns import make_tables
        from monitoring.evidently_service.app.services.report import make_report

        model = self._production(job.project)
        progress(0.05, f"reading what model {model.version} served")
        current = self._current(job, model)
        progress(0.2, f"reading held-out predictions of model {model.version}")
        reference = self._reference(model)
        progress(0.5, f"comparing {len(current)} served with {len(reference)} held-out images")
        what = (
            f"{model.project}, model version {model.version}: "
            f"{len(current)} served against {len(reference)} held-out images"
        )
        report = make_report(make_tables(reference, current, model.classes), what)
        result = DriftResult(
            report_id=job.report_id,
            project=job.project,
            model_version=model.version,
            n_reference=len(reference),
            n_current=len(current),
            drifted_columns=report.drifted,
            columns=report.p_values,
            threshold=report.threshold,
            html_key=html_key(job.project, job.report_id),
            json_key=json_key(job.project, job.report_id),
        )
        stored = StoredReport(
            created_at=utcnow(), request=job.request, result=result, evidently=report.content
        )
        self._store.put(result.html_key, report.html.encode(), "text/html; charset=utf-8")
        # The JSON is what lists find, hence last: whoever sees it can read the page.
        self._store.put(result.json_key, stored.model_dump_json().encode(), "application/json")
        return result

    def _production(self, project: str) -> ModelView:
        version = self._models.aliases(project).get("production")
        if version is None:
            msg = f"no production model in project {project!r}"
            raise NoProductionModel(msg)
        return self._models.get(project, version)

    def _current(self, job: DriftJob, model: ModelView) -> Sequence[DriftRow]:
        request = job.request
        window = Window(since=request.since, until=request.until, batch=request.batch)
        limit = request.max_predictions
        served = read_served(self._store, model.project, model.version, window, limit)
        if len(served) < MIN_PREDICTIONS:
            which = f"of batch {request.batch!r} " if request.batch else ""
            msg = (
                f"{len(served)} served predictions {which}of model version {model.version} of "
                f"project {model.project!r} in this window; at least {MIN_PREDICTIONS} are needed"
            )
            raise TooFewImages(msg)
        return [s.row for s in served]

    def _reference(self, model: ModelView) -> Sequence[DriftRow]:
        manifest = self._models.calibration_json(model.project, model.version)
        calibration = CalibrationManifest.model_validate_json(manifest) if manifest else None
        thresholds = Thresholds.of(calibration, len(model.classes))
        shards = read_shards(self._store, model.project, model.version, ("val", "gate", "test"))
        # Once each, and in the order of their hashes, which is as good as random.
        rows = {scored.image_id: drift_row(scored, thresholds) for scored in shards}
        if len(rows) < MIN_PREDICTIONS:
            msg = (
                f"{len(rows)} held-out images scored by model version {model.version} of "
                f"project {model.project!r}; at least {MIN_PREDICTIONS} are needed"
            )
            raise TooFewImages(msg)
        return [rows[image_id] for image_id in sorted(rows)]
