"""Serving: the production model of each project, replaced while requests go on."""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import structlog
from pydantic import ValidationError

from inference_service.app.core.ports import Gateway, Load, Registry
from inference_service.app.core.scored import Picture
from inference_service.app.services.local_models import Current, LocalModels
from inference_service.app.services.model_worker import ModelWorker, WorkerClosed
from shared.database import utcnow
from shared.detector.info import read_any
from shared.errors import BackendUnavailable, Conflict, NotFound, UpstreamFailed
from shared.models.registry import CalibrationManifest, EngineChoice, Refused, ServingView
from shared.predictions import ScoredImage
from shared.thresholds import Thresholds

log = structlog.stdlib.get_logger()

# A calibration may be fitted again, and a refused version mended, without the alias moving.
LOOK_AGAIN_S = 30.0


class NoProductionModel(Conflict):
    """The project has no production model yet."""


class RefusedModel(Conflict):
    """The production model cannot be served as it is, and no other is loaded."""


@dataclass(frozen=True)
class ServedModel:
    """A loaded version with everything that serving applies to it."""

    current: Current
    worker: ModelWorker
    thresholds: Thresholds
    engine: EngineChoice

    @property
    def calibrated(self) -> bool:
        """Tell whether thresholds of a calibration apply."""
        return self.current.calibration is not None


class ProjectServing:
    """What serves one project; `refresh` is called by whoever comes, one at a time."""

    def __init__(self, project: str, registry: Registry, models: LocalModels, load: Load) -> None:
        """Serve `project`; nothing is loaded before the first refresh."""
        self.project = project
        self.model: ServedModel | None = None
        self.refused: Refused | None = None
        self.registry_error: str | None = None
        self._registry = registry
        self._models = models
        self._load = load
        self._lock = threading.Lock()
        self._looked_at = float("-inf")

    def ensure(self) -> ServedModel:
        """Return the loaded model, loading it first if need be.

        Raises:
            NoProductionModel: the registry knows of none.
            RefusedModel: there is one, but it cannot be served.
            BackendUnavailable: the registry does not answer, and there is no local copy.
        """
        if self.model is None:
            with self._lock:
                if self.model is None:
                    self._refresh()
        if self.model is not None:
            return self.model
        if self.refused is not None:
            msg = f"model {self.refused.model_version} of project {self.project!r} is refused: "
            raise RefusedModel(msg + self.refused.reason)
        if self.registry_error is not None:
            raise BackendUnavailable(self.registry_error)
        msg = f"project {self.project!r} has no production model yet"
        raise NoProductionModel(msg)

    def refresh(self) -> None:
        """Look for a newly promoted model or calibration, and change over to it."""
        with self._lock:
            self._refresh()

    def close(self) -> None:
        """End the model's threads after what waits is answered."""
        if self.model is not None:
            self.model.worker.close()
            self.model.worker.join()

    def _refresh(self) -> None:
        try:
            version = self._registry.aliases(self.project).get("production")
            if version is not None and self._worth_a_look(version):
                self._looked_at = time.monotonic()
                calibration = self._registry.calibration_json(self.project, version)
                self._change_to(version, calibration)
            self.registry_error = None
        except (BackendUnavailable, UpstreamFailed) as exc:
            self.registry_error = str(exc)
            self._serve_local_copy()

    def _worth_a_look(self, version: int) -> bool:
        known = {self.model.current.version} if self.model else set()
        if self.refused is not None:
            known.add(self.refused.model_version)
        return version not in known or time.monotonic() - self._looked_at > LOOK_AGAIN_S

    def _change_to(self, version: int, calibration: str | None) -> None:
        now = self.model.current if self.model else None
        if now and (now.version, now.calibration) == (version, calibration):
            self.refused = None
            return
        current = Current(version=version, calibration=calibration, since=utcnow())
        try:
            self._models.fetch(self.project, version)
            self._take_over(current)
        except BackendUnavailable:
            raise
        # Whatever a package can do to PyTorch: the model that serves now goes on.
        except Exception as exc:  # noqa: BLE001
            self._refuse(version, exc)
            return
        self.refused = None
        self._models.set_current(self.project, current)
        if self.model is not None:
            self._models.tell_engine(self.project, version, self.model.engine)

    def _serve_local_copy(self) -> None:
        current = self._models.current(self.project)
        if self.model is None and current is not None:
            log.warning("model.local_copy", project=self.project, version=current.version)
            try:
                self._take_over(current)
            # As above, but there is none that serves.
            except Exception as exc:  # noqa: BLE001
                self._refuse(current.version, exc)

    def _refuse(self, version: int, exc: Exception) -> None:
        reason = str(exc) or type(exc).__name__
        self.refused = Refused(model_version=version, reason=reason)
        log.warning(
            "model.refused", project=self.project, version=version, reason=reason, exc_info=exc
        )

    def _take_over(self, current: Current) -> None:
        manifest = parse_calibration(current.calibration)
        package = self._models.path(self.project, current.version)
        runtime = self._load(package)
        require_calibration_of(package, manifest)
        thresholds = Thresholds.of(manifest, len(runtime.classes))
        old = self.model
        worker = ModelWorker(runtime, thresholds)
        self.model = ServedModel(current, worker, thresholds, runtime.engine)
        if old is not None:
            old.worker.close()
        log.info("model.loaded", project=self.project, version=current.version)


class Serving:
    """The projects that are served by this process."""

    def __init__(self, registry: Registry, gateway: Gateway, models: LocalModels, load: Load):
        """Serve the registry's production models through local copies."""
        self._registry = registry
        self._gateway = gateway
        self._models = models
        self._load = load
        self._projects: dict[str, ProjectServing] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._poller: threading.Thread | None = None

    def start(self, poll_s: float) -> None:
        """Load what was served before, and look for new models every `poll_s` seconds."""
        self._poller = threading.Thread(target=self._poll, args=(poll_s,), daemon=True)
        self._poller.start()

    def close(self) -> None:
        """Stop looking, answer what waits, and end."""
        self._stop.set()
        if self._poller is not None:
            self._poller.join()
        for serving in self._all().values():
            serving.close()

    def model(self, project: str) -> ServedModel:
        """Return the model that serves a project.

        Raises:
            NotFound: there is no such project.
            NoProductionModel: it has no production model yet.
        """
        try:
            return self._of(project).ensure()
        except (NoProductionModel, BackendUnavailable, NotFound):
            self._require(project)
            raise

    def score(self, project: str, picture: Picture) -> tuple[ServedModel, ScoredImage]:
        """Return what the production model sees in a picture, and which model that was.

        Raises:
            NotFound, NoProductionModel: as `model`.
            BackendUnavailable: this process is ending.
        """
        while not self._stop.is_set():
            model = self.model(project)
            try:
                return model, model.worker.score(picture)
            except WorkerClosed:
                continue
        msg = "predictions: this server is stopping"
        raise BackendUnavailable(msg)

    def view(self, project: str) -> ServingView:
        """Return what serves a project."""
        model = self.model(project)
        serving = self._of(project)
        return ServingView(
            project=project,
            model_version=model.current.version,
            calibrated=model.calibrated,
            classes=model.worker.classes,
            score_thresholds=model.thresholds.scores,
            nms_iou=model.thresholds.nms_iou,
            loaded_at=model.current.since,
            engine=model.engine,
            n_waiting=model.worker.n_waiting,
            refused=serving.refused,
            registry_error=serving.registry_error,
        )

    def refresh(self) -> None:
        """Look once for new models of every project."""
        # Another process of this machine may have been the first that was asked for one.
        for project in self._models.projects():
            self._of(project)
        for project, serving in self._all().items():
            try:
                serving.refresh()
            # The outer shell of the poller, which must not end: the other projects have their turn.
            except Exception:
                log.exception("model.refresh_failed", project=project)

    def _require(self, project: str) -> None:
        """See that there is such a project; one that is not is not looked after any longer."""
        try:
            self._gateway.project(project)
        except NotFound:
            with self._lock:
                self._projects.pop(project, None)
            raise

    def _of(self, project: str) -> ProjectServing:
        with self._lock:
            if project not in self._projects:
                self._projects[project] = ProjectServing(
                    project, self._registry, self._models, self._load
                )
            return self._projects[project]

    def _all(self) -> Mapping[str, ProjectServing]:
        with self._lock:
            return dict(self._projects)

    def _poll(self, poll_s: float) -> None:
        while not self._stop.is_set():
            self.refresh()
            self._stop.wait(poll_s)


def require_calibration_of(package: Path, manifest: CalibrationManifest | None) -> None:
    """See that a calibration was fitted to the weights of this package.

    Raises:
        ValueError: it was fitted to others.
    """
    if manifest is None:
        return
    weights = read_any(package).weights_sha256
    if manifest.weights_sha256 != weights:
        msg = (
            f"calibration of other weights: {manifest.weights_sha256!r}, the model has {weights!r}"
        )
        raise ValueError(msg)


def parse_calibration(text: str | None) -> CalibrationManifest | None:
    """Return a calibration, if there is one.

    Raises:
        ValueError: it has a component, or a version, that this serving does not know.
    """
    if text is None:
        return None
    try:
        return CalibrationManifest.model_validate_json(text)
    except ValidationError as exc:
        first = exc.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        msg = f"calibration not understood at {where!r}: {first['msg']} ({first['input']!r})"
        raise ValueError(msg) from exc
