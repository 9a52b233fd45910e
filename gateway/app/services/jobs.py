"""Jobs as a stream of changes, and whether what they are asked for exists."""

import asyncio
from collections.abc import AsyncIterator

import structlog
from sse_starlette.event import ServerSentEvent

from gateway.app.services.proxy import Forwarded, Proxy
from shared.client.transport import error_from
from shared.errors import BackendUnavailable, NotFound
from shared.jobs.store import JobStore
from shared.models.jobs import FINAL_STATES, JobView
from shared.projects import check_project_name, unknown_project

log = structlog.stdlib.get_logger()

POLL_S = 0.3


async def job_events(store: JobStore, job: JobView) -> AsyncIterator[ServerSentEvent]:
    """Yield an event `job` now and after each change of the row, until the job is over."""
    yield _event(job)
    while job.state not in FINAL_STATES:
        await asyncio.sleep(POLL_S)
        try:
            found = await asyncio.to_thread(store.get, job.id)
        except BackendUnavailable as exc:
            log.warning("job.events_delayed", job_id=job.id, reason=str(exc))
            continue
        if _content(found) != _content(job):
            yield _event(found)
        job = found


async def require_project(proxy: Proxy, name: str, request_id: str, principal: str) -> None:
    """Ask data_service for a project, as whoever asks us.

    Raises:
        NotFound: there is none of this name.
        BackendUnavailable: data_service does not answer.
    """
    asked = Forwarded(
        service="data_service",
        method="GET",
        target=f"/v1/projects/{check_project_name(name)}".encode(),
        headers=[],
        body=None,
        max_bytes=0,
        request_id=request_id,
        principal=principal,
    )
    response = await proxy.send(asked)
    try:
        if response.status_code == NotFound.status:
            raise unknown_project(name)
        if response.is_error:
            await response.aread()
            raise error_from(response)
    finally:
        await response.aclose()


def require_round(store: JobStore, project: str | None, round_id: str) -> None:
    """Look for any job of a round; its first is made in one transaction with it.

    Raises:
        NotFound: there is no such round, or not in this project.
    """
    if not store.list(project=project, round_id=round_id, limit=1):
        where = "" if project is None else f" of project {project!r}"
        msg = f"unknown round: {round_id!r}{where}"
        raise NotFound(msg)


def _event(job: JobView) -> ServerSentEvent:
    return ServerSentEvent(event="job", data=job.model_dump_json())


def _content(job: JobView) -> JobView:
    """Return the job without the seconds, which pass without its being changed."""
    return job.model_copy(update={"seconds": None})
