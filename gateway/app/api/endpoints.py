"""What the gateway answers itself: jobs, keys, audit log."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from fastapi.concurrency import run_in_threadpool
from sse_starlette.sse import EventSourceResponse

from gateway.app.api.dependencies import DepsDep, PrincipalDep
from gateway.app.models.schemas import AuditEntry, KeyCreate, KeyView, NewKey
from gateway.app.services.jobs import job_events, require_project, require_round
from shared.models.geometry import MAX_INTEGER
from shared.models.jobs import JobState, JobView

router = APIRouter()


@router.get("/v1/jobs", tags=["jobs"])
async def list_jobs(
    request: Request,
    deps: DepsDep,
    principal: PrincipalDep,
    project: str | None = None,
    state: JobState | None = None,
    round_id: str | None = None,
    parent_id: Annotated[str | None, Query(description="The parts of this job.")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> list[JobView]:
    found = await run_in_threadpool(
        deps.jobs.list,
        project=project,
        state=state,
        round_id=round_id,
        parent_id=parent_id,
        limit=limit,
    )
    if not found and parent_id is not None:
        await run_in_threadpool(deps.jobs.get, parent_id)
    if not found and project is not None:
        await require_project(deps.proxy, project, request.state.request_id, principal.name)
    if not found and round_id is not None:
        await run_in_threadpool(require_round, deps.jobs, project, round_id)
    return list(found)


@router.get("/v1/jobs/{job_id}", tags=["jobs"])
def get_job(job_id: str, deps: DepsDep) -> JobView:
    return deps.jobs.get(job_id)


@router.get("/v1/jobs/{job_id}/events", tags=["jobs"], response_class=EventSourceResponse)
async def get_job_events(
    deps: DepsDep, job: Annotated[JobView, Depends(get_job)]
) -> EventSourceResponse:
    """Server-sent events: the job now and after each change, until it is over."""
    return EventSourceResponse(job_events(deps.jobs, job))


@router.post("/v1/jobs/{job_id}/cancellation", tags=["jobs"])
def cancel_job(job_id: str, deps: DepsDep) -> JobView:
    return deps.jobs.cancel(job_id)


@router.post("/v1/keys", status_code=201, tags=["keys"])
def create_key(request: KeyCreate, deps: DepsDep) -> NewKey:
    """Make an API key; the answer is the only place where it is ever shown."""
    return deps.keys.create(request)


@router.get("/v1/keys", tags=["keys"])
def list_keys(deps: DepsDep) -> list[KeyView]:
    return deps.keys.list()


@router.delete("/v1/keys/{key_id}", tags=["keys"])
def revoke_key(key_id: str, deps: DepsDep) -> KeyView:
    return deps.keys.revoke(key_id)


@router.get("/v1/audit", tags=["audit"])
def list_audit_entries(
    deps: DepsDep,
    before: Annotated[int | None, Query(ge=0, le=MAX_INTEGER)] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> list[AuditEntry]:
    """Return who changed what, the newest first; `before` is the id of the last entry seen."""
    return deps.audit.list(before=before, limit=limit)
