"""The worker of the queue `evidently`: makes drift reports."""

import time
from collections.abc import Mapping

from monitoring.evidently_service.app.services.drift import DriftJob
from monitoring.evidently_service.app.wiring import build_reporter
from shared.jobs.worker import JobContext, TaskFunction, run_worker
from shared.models.registry import DriftCreate, DriftResult
from shared.served import FLUSH_S
from shared.settings import Settings, load_settings


def build(settings: Settings) -> Mapping[str, TaskFunction]:
    """Return the tasks of this worker."""
    reporter = build_reporter(settings)

    def report(context: JobContext) -> DriftResult:
        job = context.job
        request = DriftCreate.model_validate(job.payload)
        if request.until is None:
            _wait_for_the_log(context)
        return reporter.create(DriftJob(job.id, job.project, request), context.progress)

    return {"evidently.report": report}


def _wait_for_the_log(context: JobContext) -> None:
    """Let what was served before the request reach the object store."""
    end = time.monotonic() + 2 * FLUSH_S
    while time.monotonic() < end:
        context.progress(0.0, "waiting for the last served predictions")
        time.sleep(0.1)


def main() -> None:
    """Work until told to stop."""
    run_worker("evidently", load_settings(), build)


if __name__ == "__main__":
    main()
