"""Jobs as a stream of changes."""

import asyncio
from collections.abc import AsyncIterator

import structlog
from sse_starlette.event import ServerSentEvent

from shared.errors import BackendUnavailable
from shared.jobs.store import JobStore
from shared.models.jobs import FINAL_STATES, JobView

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


def _event(job: JobView) -> ServerSentEvent:
    return ServerSentEvent(event="job", data=job.model_dump_json())


def _content(job: JobView) -> JobView:
    """Return the job without the seconds, which pass without its being changed."""
    return job.model_copy(update={"seconds": None})
