"""Routes of the inference service."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from inference_service.app.api.dependencies import Deps, Sent, image_of
from inference_service.app.models.schemas import ImageSource, ReindexCreate
from inference_service.app.services.stored import scored_view
from shared.jobs.store import JobSubmit
from shared.models.geometry import MAX_INTEGER
from shared.models.jobs import JobView
from shared.models.registry import (
    ImagePredictions,
    Prediction,
    ScoringCreate,
    ServingView,
)

router = APIRouter(prefix="/v1/projects/{project}", tags=["inference"])

Batch = Annotated[
    str | None, Query(max_length=100, description="Label that drift reports can ask for.")
]
Version = Annotated[
    int | None,
    Query(ge=0, le=MAX_INTEGER, description="0: the base model; unset: production."),
]

_BYTES = {"type": "string", "format": "binary"}
_FORM = {"type": "object", "required": ["file"], "properties": {"file": _BYTES}}
PREDICTION_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {"schema": _FORM},
            "application/json": {"schema": ImageSource.model_json_schema()},
            "image/*": {"schema": _BYTES},
        },
    }
}


@router.post("/predict", openapi_extra=PREDICTION_BODY)
def predict(
    project: str, sent: Sent, deps: Deps, response: Response, batch: Batch = None
) -> Prediction:
    prediction = deps.predictor.predict(project, image_of(project, sent, deps, batch))
    response.headers["X-Model-Version"] = str(prediction.model_version)
    response.headers["X-Inference-Ms"] = f"{prediction.seconds * 1000:.1f}"
    return prediction


@router.get("/predictions/{image_id}")
def stored_prediction(
    project: str,
    image_id: str,
    deps: Deps,
    model_version: Version = None,
    min_score: Annotated[float, Query(ge=0, le=1)] = 0.25,
) -> ImagePredictions:
    version = _version(deps, project, model_version)
    return scored_view(deps.stored.find(project, version, image_id), version, min_score)


@router.get("/serving")
def serving(project: str, deps: Deps) -> ServingView:
    return deps.serving.view(project)


@router.post("/scorings", status_code=202)
def score(project: str, scoring: ScoringCreate, deps: Deps) -> JobView:
    deps.neighbours.gateway.project(project)
    if scoring.model_version is not None:
        deps.neighbours.registry.get(project, scoring.model_version)
    with deps.database.transaction() as session:
        return deps.jobs.submit(session, JobSubmit("inference.score", project, scoring))


@router.post("/reindexings", status_code=202)
def reindex(project: str, deps: Deps) -> JobView:
    deps.neighbours.gateway.project(project)
    with deps.database.transaction() as session:
        return deps.jobs.submit(session, JobSubmit("inference.reindex", project, ReindexCreate()))


def _version(deps: Deps, project: str, given: int | None) -> int:
    return deps.serving.model(project).current.version if given is None else given
