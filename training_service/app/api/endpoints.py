"""Routes of trainings, evaluations and models."""

from typing import Any

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool

from shared.bases import check_base
from shared.jobs.store import JobSubmit
from shared.models.jobs import JobView
from shared.models.registry import (
    EvaluationCreate,
    ModelCopy,
    ModelView,
    TrainingCreate,
    VersionNumber,
)
from shared.upload_body import receive
from training_service.app.api.dependencies import Deps
from training_service.app.services.copies import copy_model
from training_service.app.services.imports import import_model

_ZIP: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}},
    }
}

router = APIRouter(prefix="/v1/projects/{project}", tags=["training"])


@router.post("/trainings", status_code=202)
def create_training(project: str, body: TrainingCreate, deps: Deps) -> JobView:
    check_base(body.params.base)
    deps.datasets.dataset_version(project, body.dataset_version)
    with deps.database.transaction() as session:
        return deps.jobs.submit(session, JobSubmit("training.train", project, body))


@router.post("/evaluations", status_code=202)
def create_evaluation(project: str, body: EvaluationCreate, deps: Deps) -> JobView:
    deps.registry.get(project, body.model_version)
    with deps.database.transaction() as session:
        return deps.jobs.submit(session, JobSubmit("training.evaluate", project, body))


@router.get("/models")
def list_models(project: str, deps: Deps) -> list[ModelView]:
    models = deps.registry.list(project)
    if not models:
        deps.datasets.project(project)
    return models


@router.post("/models/copies", status_code=201)
def create_copy(project: str, body: ModelCopy, deps: Deps) -> ModelView:
    return copy_model(deps.registry, deps.datasets, project, body)


@router.post("/models/imports", status_code=201, openapi_extra=_ZIP)
async def create_import(project: str, request: Request, deps: Deps) -> ModelView:
    async with receive(request, deps.max_upload_mb) as received:
        return await run_in_threadpool(
            import_model,
            deps.registry,
            deps.datasets,
            project,
            received.file,
            deps.max_upload_mb << 20,
        )


@router.get("/models/{version}")
def get_model(project: str, version: VersionNumber, deps: Deps) -> ModelView:
    return deps.registry.get(project, version)
