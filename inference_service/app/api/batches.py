"""Batches: many images to predict, one to a line."""

from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse

from inference_service.app.api.dependencies import Deps
from inference_service.app.services.batches import NewBatch
from shared.models.batches import BatchView
from shared.models.jobs import JobView
from shared.models.registry import VersionNumber
from shared.upload_body import receive

router = APIRouter(prefix="/v1/batches", tags=["batches"])

MAX_HOURS = 24 * 30
_LINES = {"type": "string", "format": "binary", "description": "image_id, url or key a line."}
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/jsonl": {"schema": _LINES},
            "multipart/form-data": {
                "schema": {"type": "object", "required": ["file"], "properties": {"file": _LINES}}
            },
        },
    }
}


IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=100,
        description="The same request with the same key makes no second batch.",
    ),
]


@router.post("", status_code=202, openapi_extra=_BODY)
async def create_batch(
    project: str,
    request: Request,
    deps: Deps,
    name: Annotated[str, Query(max_length=200)] = "",
    model_version: Annotated[
        VersionNumber | None, Query(description="Unset: production's, as it is now.")
    ] = None,
    expires_in_h: Annotated[float, Query(gt=0, le=MAX_HOURS)] = 24,
    idempotency_key: IdempotencyKey = None,
) -> BatchView:
    await run_in_threadpool(deps.neighbours.gateway.project, project)
    expires_in = timedelta(hours=expires_in_h)
    new = NewBatch(project, name, model_version, expires_in, idempotency_key)
    async with receive(request, deps.settings.max_upload_mb) as received:
        return await run_in_threadpool(deps.batches.create, new, received.file)


@router.get("")
def list_batches(
    deps: Deps, project: str | None = None, limit: Annotated[int, Query(ge=1, le=1000)] = 100
) -> list[BatchView]:
    if project is not None:
        deps.neighbours.gateway.project(project)
    return deps.batches.list(project, limit)


@router.get("/{batch_id}")
def get_batch(batch_id: str, deps: Deps) -> BatchView:
    return deps.batches.get(batch_id)


@router.get("/{batch_id}/results", response_class=StreamingResponse)
def get_results(batch_id: str, deps: Deps) -> StreamingResponse:
    lines = deps.batches.output(batch_id, "results")
    return StreamingResponse(lines, media_type="application/jsonl")


@router.get("/{batch_id}/errors", response_class=StreamingResponse)
def get_errors(batch_id: str, deps: Deps) -> StreamingResponse:
    lines = deps.batches.output(batch_id, "errors")
    return StreamingResponse(lines, media_type="application/jsonl")


@router.post("/{batch_id}/cancel")
def cancel_batch(batch_id: str, deps: Deps) -> BatchView:
    return deps.batches.cancel(batch_id)


@router.post("/{batch_id}/resume")
def resume_batch(batch_id: str, deps: Deps) -> BatchView:
    return deps.batches.resume(batch_id)


@router.delete("/{batch_id}", status_code=202)
def delete_batch(batch_id: str, deps: Deps) -> JobView:
    """Delete a batch that is over; the job in the answer deletes its files."""
    return deps.batches.delete(batch_id)
