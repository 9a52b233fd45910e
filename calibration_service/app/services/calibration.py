"""Calibrate a model: thresholds and NMS fitted on val, reported on test."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from calibration_service.app.core.thresholds import ThresholdFit, default_component, measure
from calibration_service.app.services.evidence import EvidenceReader
from shared.errors import Conflict
from shared.models.registry import (
    CalibrationCreate,
    CalibrationManifest,
    CalibrationResult,
    ModelView,
)

if TYPE_CHECKING:
    from shared.registry import ModelRegistry

log = structlog.stdlib.get_logger()

Progress = Callable[[float, str], None]


class NoModel(Conflict):
    """The project has no model yet."""


@dataclass(frozen=True)
class Calibrator:
    """Fits the manifest of a model version and keeps it beside the model."""

    evidence: EvidenceReader
    registry: ModelRegistry

    def model(self, project: str, version: int | None) -> ModelView:
        """Return the version, or the newest.

        Raises:
            UnknownModel: the project has no such version.
            NoModel: it has none at all.
        """
        if version is not None:
            return self.registry.get(project, version)
        models = self.registry.list(project)
        if not models:
            msg = f"project {project!r} has no model yet"
            raise NoModel(msg)
        return models[-1]

    def calibrate(
        self, project: str, request: CalibrationCreate, progress: Progress
    ) -> CalibrationResult:
        """Fit on val, keep what cross-validation finds better than the default, report on test.

        The test images are read only for `before` and `after`: they decide nothing.

        Raises:
            NotScored: val or test was not scored by this version.
            NotLabelled: val or test has no labelled image.
        """
        model = self.model(project, request.model_version)
        progress(0.0, f"reading what version {model.version} saw")
        manifest = self.evidence.manifest(project, request.dataset_version)
        val = self.evidence.read(manifest, model, "val")
        test = self.evidence.read(manifest, model, "test")
        n_classes = len(manifest.classes)
        progress(0.2, f"fitting thresholds on {len(val)} images")
        fit = ThresholdFit(val, n_classes)
        choice = fit.choose(lambda done: progress(0.4 + 0.4 * done, "cross-validating"))
        result = CalibrationResult(
            project=project,
            model_version=model.version,
            manifest=CalibrationManifest(
                project=project,
                model_version=model.version,
                weights_sha256=model.weights_sha256,
                components=(choice.component,),
            ),
            before=measure(test, default_component(n_classes)),
            after=measure(test, choice.component),
            kept=choice.kept,
        )
        progress(0.9, "writing the manifest")
        self._keep(result)
        return result

    def _keep(self, result: CalibrationResult) -> None:
        project, version = result.project, result.model_version
        self.registry.log_metrics(
            project,
            version,
            {
                "calibration/test_f1_before": result.before.f1,
                "calibration/test_f1_after": result.after.f1,
            },
        )
        self.registry.log_calibration(project, version, result.manifest)
        log.info(
            "model.calibrated",
            model_version=version,
            kept=result.kept,
            f1_before=round(result.before.f1, 4),
            f1_after=round(result.after.f1, 4),
        )
