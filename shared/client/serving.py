"""Predictions of the served model, and its drift."""

from shared.client.transport import Transport, at
from shared.models.jobs import JobView
from shared.models.registry import (
    DriftCreate,
    DriftResult,
    ImagePredictions,
    Prediction,
    ServingView,
)


class ServingCalls(Transport):
    """What the model in production sees, and whether the world has changed."""

    def predict(
        self, project: str, image: bytes, *, name: str = "image", batch: str | None = None
    ) -> Prediction:
        """Return what the production model sees in an image file's bytes."""
        response = self._send(
            "POST",
            at("projects", project, "predict"),
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
        path = at("projects", project, "predictions", image_id)
        query = {"model_version": model_version, "min_score": min_score}
        return self._get(path, ImagePredictions, query)

    def serving(self, project: str) -> ServingView:
        """Return which model version is loaded for serving."""
        return self._get(at("projects", project, "serving"), ServingView)

    def drift_report(self, project: str, drift: DriftCreate) -> JobView:
        """Start a drift report; its result is a DriftResult."""
        return self._post(at("projects", project, "drift-reports"), drift, JobView)

    def drift_reports(self, project: str) -> list[DriftResult]:
        """Return every drift report, the oldest first."""
        return self._get_list(at("projects", project, "drift-reports"), DriftResult)

    def drift_html(self, project: str, report_id: str) -> bytes:
        """Return a drift report as a page."""
        path = at("projects", project, "drift-reports", report_id, "html")
        return self._send("GET", path).content
