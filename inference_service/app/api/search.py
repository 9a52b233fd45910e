"""Routes of search by likeness and of the map."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import ValidationError

from inference_service.app.api.dependencies import Deps, Sent, image_of
from inference_service.app.api.endpoints import PREDICTION_BODY
from inference_service.app.services.embedding_map import NoMap
from inference_service.app.services.index import IndexedBox
from inference_service.app.services.stored import NotScored
from shared.errors import ValidationFailed
from shared.jobs.store import JobSubmit
from shared.models.geometry import MAX_INTEGER, Annotation, Xyxy
from shared.models.jobs import JobView
from shared.models.search import EmbeddingMap, MapCreate, SimilarImages, SimilarObjects

router = APIRouter(prefix="/v1/projects/{project}", tags=["search"])

Many = Annotated[int, Query(ge=1, le=1000, description="How many at most.")]
Version = Annotated[
    int | None,
    Query(ge=0, le=MAX_INTEGER, description="Unset: the newest that scored the image."),
]
Region = Annotated[
    str, Query(description="x1,y1,x2,y2 in [0, 1]: where in the image.", max_length=200)
]


@router.get("/similar-images/{image_id}")
def images_like_stored(
    project: str, image_id: str, deps: Deps, k: Many = 10, model_version: Version = None
) -> SimilarImages:
    with _told_apart(deps, project, image_id):
        return deps.search.images_like_stored(project, model_version, image_id, k)


@router.post("/similar-images", openapi_extra=PREDICTION_BODY)
def images_like(project: str, sent: Sent, deps: Deps, k: Many = 10) -> SimilarImages:
    return deps.search.images_like(project, image_of(project, sent, deps), k)


@router.get("/similar-objects/{image_id}")
def objects_like_stored(
    project: str,
    image_id: str,
    deps: Deps,
    box: Annotated[int, Query(ge=0, le=MAX_INTEGER, description="Of the predicted boxes.")],
    k: Many = 10,
    model_version: Version = None,
) -> SimilarObjects:
    with _told_apart(deps, project, image_id):
        return deps.search.objects_like_stored(project, model_version, IndexedBox(image_id, box), k)


@router.post("/similar-objects", openapi_extra=PREDICTION_BODY)
def objects_like(
    project: str, sent: Sent, deps: Deps, xyxy: Region, k: Many = 10
) -> SimilarObjects:
    image = image_of(project, sent, deps)
    return deps.search.objects_like(project, image, _region(xyxy), k)


@router.post("/maps", status_code=202)
def make_map(project: str, request: MapCreate, deps: Deps) -> JobView:
    deps.neighbours.gateway.project(project)
    if request.model_version:
        deps.neighbours.registry.get(project, request.model_version)
    deps.maps.check(project, request.model_version)
    with deps.database.transaction() as session:
        return deps.jobs.submit(session, JobSubmit("inference.map", project, request))


@router.get("/maps/newest")
def newest_map(project: str, deps: Deps) -> EmbeddingMap:
    with _told_apart(deps, project):
        return deps.maps.newest(project)


@contextmanager
def _told_apart(deps: Deps, project: str, image_id: str | None = None) -> Iterator[None]:
    """Say of what was not found whether the project, or its image, is there at all.

    Raises:
        NotFound: it is not, or it is and what raised stands.
    """
    try:
        yield
    except (NotScored, NoMap):
        deps.neighbours.gateway.project(project)
        if image_id is not None:
            deps.neighbours.gateway.image(project, image_id)
        raise


def _region(text: str) -> Xyxy:
    try:
        return Annotation.model_validate({"class_id": 0, "xyxy": text.split(",")}).xyxy
    except ValidationError as exc:
        msg = f"xyxy: x1,y1,x2,y2 in [0, 1] with x1 < x2 and y1 < y2: {text!r}"
        raise ValidationFailed(msg) from exc
