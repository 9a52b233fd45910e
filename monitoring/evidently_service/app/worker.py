"""The worker of the queue `evidently`: makes drift reports."""

from collections.abc import Mapping

from monitoring.evidently_service.app.services.drift import DriftJob
from monitoring.evidently_service.app.wiring import build_reporter
from shared.jobs.worker import JobContext, TaskFunction, run_worker
from shared.models.registry import DriftCreate, DriftResult
from shared.settings import Settings, load_settings


def build(settings: Settings) -> Mapping[str, TaskFunction]:
    """Return the tasks of this worker."""
    reporter = build_reporter(settings)

    def report(context: JobContext) -> DriftResult:
        job = context.job
        request = DriftCreate.model_validate(job.payload)
        return reporter.create(DriftJob(job.id, job.project, request), context.progress)

    return {"evidently.report": report}


def main() -> None:
    """Work until told to stop."""
    run_worker("evidently", load_settings(), build)


if __name__ == "__main__":
    main()
