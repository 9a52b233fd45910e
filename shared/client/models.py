"""Models: trained, scored with, calibrated, promoted."""

from shared.client.transport import Transport, at
from shared.models.jobs import JobView
from shared.models.registry import (
    AliasView,
    CalibrationCreate,
    EvaluationCreate,
    GateCreate,
    ModelCopy,
    ModelView,
    PromotionCreate,
    ScoringCreate,
    TrainingCreate,
)


class ModelCalls(Transport):
    """Models and the jobs that make and measure them."""

    def models(self, project: str) -> list[ModelView]:
        """Return every model version, the oldest first."""
        return self._get_list(at("projects", project, "models"), ModelView)

    def model(self, project: str, version: int) -> ModelView:
        """Return one model version."""
        return self._get(at("projects", project, "models", version), ModelView)

    def copy_model(self, project: str, copy: ModelCopy) -> ModelView:
        """Register another project's model version here; the same copy twice is one version."""
        return self._post(
            at("projects", project, "models", "copies"), copy, ModelView, idempotent=True
        )

    def import_model(self, project: str, archive: bytes) -> ModelView:
        """Register somebody else's detector: a zip of `model.json` and `model.onnx`."""
        response = self._send(
            "POST",
            at("projects", project, "models", "imports"),
            content=archive,
            headers={"Content-Type": "application/zip"},
            timeout=600.0,
        )
        return ModelView.model_validate_json(response.content)

    def aliases(self, project: str) -> AliasView:
        """Return where the serving aliases point."""
        return self._get(at("projects", project, "aliases"), AliasView)

    def train(self, project: str, training: TrainingCreate) -> JobView:
        """Start a training; its result is a TrainingResult."""
        return self._post(at("projects", project, "trainings"), training, JobView)

    def evaluate(self, project: str, evaluation: EvaluationCreate) -> JobView:
        """Start an evaluation; its result is an EvaluationResult."""
        return self._post(at("projects", project, "evaluations"), evaluation, JobView)

    def score(self, project: str, scoring: ScoringCreate) -> JobView:
        """Start a scoring; its result is a ScoringResult."""
        return self._post(at("projects", project, "scorings"), scoring, JobView)

    def reindex(self, project: str) -> JobView:
        """Rebuild the vector index from the shards."""
        return self._post(at("projects", project, "reindexings"), None, JobView)

    def calibrate(self, project: str, calibration: CalibrationCreate) -> JobView:
        """Start a calibration; its result is a CalibrationResult."""
        return self._post(at("projects", project, "calibrations"), calibration, JobView)

    def gate(self, project: str, gate: GateCreate) -> JobView:
        """Start a gate; its result is a GateVerdict."""
        return self._post(at("projects", project, "gates"), gate, JobView)

    def promote(self, project: str, promotion: PromotionCreate) -> AliasView:
        """Move the production alias by hand."""
        return self._post(at("projects", project, "promotions"), promotion, AliasView)

    def rollback(self, project: str) -> AliasView:
        """Serve the previous production model again."""
        return self._post(at("projects", project, "rollbacks"), None, AliasView)
