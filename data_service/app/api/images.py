"""Images: records, bytes, hidden labels, and files by signed addresses."""

import mimetypes
from typing import Annotated

from fastapi import APIRouter, Query, Response
from fastapi.responses import FileResponse

from data_service.app.api.dependencies import Deps
from data_service.app.services import images
from data_service.app.services.duplicate_groups import list_groups
from shared.models.data import GroundTruth, ImagePage, ImageView, Split
from shared.models.search import DuplicateGroups
from shared.objects.port import ObjectNotFound
from shared.objects.signing import verify_signature

router = APIRouter(tags=["images"])

# The id is a hash of the content, so the content of an address never changes.
_CACHE = {"Cache-Control": "private, max-age=31536000, immutable"}
# What somebody uploaded is shown as what it is, or not at all.
_NO_SNIFFING = {"X-Content-Type-Options": "nosniff"}


@router.get("/v1/projects/{project}/images")
def list_images(
    project: str,
    deps: Deps,
    split: Split | None = None,
    labelled: bool | None = None,
    name: str | None = None,
    cursor: str | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> ImagePage:
    query = images.ImageQuery(split, labelled, name, cursor, limit)
    return images.list_images(deps.database, project, query)


@router.get("/v1/projects/{project}/images/{image_id}")
def get_image(project: str, image_id: str, deps: Deps) -> ImageView:
    return images.get_image(deps.database, project, image_id)


@router.get("/v1/projects/{project}/images/{image_id}/content", response_class=Response)
def get_content(project: str, image_id: str, deps: Deps) -> Response:
    return _bytes(deps, images.get_image(deps.database, project, image_id).key)


@router.get("/v1/projects/{project}/images/{image_id}/thumbnail", response_class=Response)
def get_thumbnail(project: str, image_id: str, deps: Deps) -> Response:
    return _bytes(deps, images.get_image(deps.database, project, image_id).thumbnail_key)


@router.get("/v1/projects/{project}/images/{image_id}/ground-truth")
def get_ground_truth(project: str, image_id: str, deps: Deps) -> GroundTruth:
    return images.ground_truth(deps.database, deps.store, project, image_id)


@router.get("/v1/projects/{project}/duplicate-groups")
def list_duplicate_groups(
    project: str,
    deps: Deps,
    cursor: str | None = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> DuplicateGroups:
    return list_groups(deps.database, project, cursor, limit)


@router.get("/v1/files/{key:path}", tags=["files"], response_class=FileResponse)
def get_file(key: str, expires: int, signature: str, deps: Deps) -> FileResponse:
    verify_signature(key, expires, signature, deps.settings.signing_key)
    path = deps.store.local_path(key)
    if path is None:
        msg = f"the object store signs addresses of its own: {key!r}"
        raise ObjectNotFound(msg)
    return FileResponse(path, media_type=_media_type(key), headers=_NO_SNIFFING)


def _bytes(deps: Deps, key: str) -> Response:
    return Response(deps.store.get(key), media_type=_media_type(key), headers=_CACHE | _NO_SNIFFING)


def _media_type(key: str) -> str:
    return mimetypes.guess_type(key)[0] or "application/octet-stream"
