"""Jobs, and waiting for them."""

import time
from collections.abc import Callable

from shared.client.transport import Transport, at
from shared.errors import AppError
from shared.models.jobs import FINAL_STATES, JobState, JobView


class JobFailed(AppError):
    """A job that was waited for ended otherwise than well."""

    status = 409


class JobCalls(Transport):
    """Jobs of all services."""

    def job(self, job_id: str) -> JobView:
        """Return one job."""
        return self._get(at("jobs", job_id), JobView)

    def jobs(
        self, *, project: str | None = None, state: JobState | None = None, limit: int = 100
    ) -> list[JobView]:
        """Return jobs, the newest first."""
        query = {"project": project, "state": state, "limit": limit}
        return self._get_list(at("jobs"), JobView, query)

    def cancel_job(self, job_id: str) -> JobView:
        """Ask a job to stop."""
        return self._post(at("jobs", job_id, "cancellation"), None, JobView)

    def wait_job(
        self,
        job_id: str,
        *,
        on_change: Callable[[JobView], None] | None = None,
        timeout_s: float = 24 * 3600.0,
        poll_s: float = 0.5,
    ) -> JobView:
        """Wait until a job ends, and return it.

        Raises:
            JobFailed: it failed or was cancelled; the message has its error.
            TimeoutError: it did not end in time.
        """
        deadline = time.monotonic() + timeout_s
        last: tuple[str, float, str] | None = None
        while True:
            job = self.job(job_id)
            if (seen := (job.state, job.progress, job.message)) != last:
                last = seen
                (on_change or _ignore)(job)
            if job.state == "succeeded":
                return job
            if job.state in FINAL_STATES:
                msg = f"job {job.id!r} ({job.kind}) {job.state}: {job.error or job.message}"
                raise JobFailed(msg)
            if time.monotonic() > deadline:
                msg = f"job {job.id!r} ({job.kind}) still {job.state} after {timeout_s} s"
                raise TimeoutError(msg)
            time.sleep(poll_s)


def _ignore(job: JobView) -> None:
    del job
