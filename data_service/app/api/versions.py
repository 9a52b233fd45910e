"""Dataset versions and their exports."""

from typing import Annotated

from fastapi import APIRouter, Path, Response
from fastapi.responses import FileResponse
from starlette.background import BackgroundTask

from data_service.app.api.dependencies import Deps
from data_service.app.core.formats.detect import ExportFormat
from data_service.app.services import versions
from data_service.app.services.export import export_version
from shared.models.data import DatasetManifest, DatasetVersionCreate, DatasetVersionView
from shared.models.geometry import MAX_INTEGER

VersionNumber = Annotated[int, Path(ge=0, le=MAX_INTEGER)]

router = APIRouter(prefix="/v1/projects/{project}/dataset-versions", tags=["dataset versions"])


@router.post("", status_code=201)
def create_version(project: str, version: DatasetVersionCreate, deps: Deps) -> DatasetVersionView:
    return versions.create_version(deps.database, deps.store, project, version)


@router.get("")
def list_versions(project: str, deps: Deps) -> list[DatasetVersionView]:
    return versions.list_versions(deps.database, project)


@router.get("/{version}")
def get_version(project: str, version: VersionNumber, deps: Deps) -> DatasetVersionView:
    return versions.get_version(deps.database, project, version)


@router.get("/{version}/manifest", response_model=DatasetManifest)
def get_manifest(project: str, version: VersionNumber, deps: Deps) -> Response:
    key = versions.get_version(deps.database, project, version).manifest_key
    return Response(deps.store.get(key), media_type="application/json")


@router.get("/{version}/export", response_class=FileResponse)
def get_export(
    project: str,
    version: VersionNumber,
    format: ExportFormat,  # noqa: A002
    deps: Deps,
) -> FileResponse:
    path = export_version(deps.database, deps.store, project, version, format)
    return FileResponse(
        path,
        media_type="application/zip",
        filename=f"{project}-v{version}-{format}.zip",
        background=BackgroundTask(path.unlink, missing_ok=True),
    )
