"""Projects, uploads and ingestions."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.concurrency import run_in_threadpool

from data_service.app.api.dependencies import Deps
from data_service.app.services import copies, projects, uploads
from data_service.app.services.source import check_request
from shared.jobs.store import JobSubmit
from shared.models.data import IngestionCreate, ProjectCopy, ProjectCreate, ProjectView, Upload
from shared.models.jobs import JobView
from shared.upload_body import receive

router = APIRouter(prefix="/v1/projects")

FileName = Annotated[
    str,
    Query(
        max_length=200,
        pattern=r"^[^./\\\x00-\x1f][^/\\\x00-\x1f]*$",
        description="Of the file, without folders: what a single image is then called.",
    ),
]


@router.post("", status_code=201, tags=["projects"])
def create_project(project: ProjectCreate, deps: Deps) -> ProjectView:
    return projects.create_project(deps.database, project)


@router.get("", tags=["projects"])
def list_projects(deps: Deps) -> list[ProjectView]:
    return projects.list_projects(deps.database)


@router.get("/{project}", tags=["projects"])
def get_project(project: str, deps: Deps) -> ProjectView:
    return projects.get_project(deps.database, project)


@router.post("/{project}/copies", status_code=201, tags=["projects"])
def create_copy(project: str, copy: ProjectCopy, deps: Deps) -> ProjectView:
    return copies.copy_project(deps.database, deps.store, project, copy)


@router.post(
    "/{project}/uploads",
    status_code=201,
    tags=["ingestion"],
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
                "multipart/form-data": {
                    "schema": {
                        "type": "object",
                        "properties": {"file": {"type": "string", "format": "binary"}},
                    }
                },
            },
        }
    },
)
async def create_upload(
    project: str, request: Request, deps: Deps, name: FileName | None = None
) -> Upload:
    await run_in_threadpool(projects.get_project, deps.database, project)
    async with receive(request, deps.settings.max_upload_mb) as received:
        name = name or received.name
        return await run_in_threadpool(
            uploads.save_upload, deps.database, deps.store, project, received.file, name
        )


@router.post("/{project}/ingestions", status_code=202, tags=["ingestion"])
def create_ingestion(project: str, ingestion: IngestionCreate, deps: Deps) -> JobView:
    projects.get_project(deps.database, project)
    check_request(deps.settings, deps.database, project, ingestion)
    with deps.database.transaction() as session:
        return deps.jobs.submit(session, JobSubmit("data.ingest", project, ingestion))
