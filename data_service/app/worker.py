"""The worker of the queue `data`."""

from collections.abc import Mapping

from pydantic import BaseModel

from data_service.app import wiring
from data_service.app.services.ingestion import Ingestion, ingest_once
from data_service.app.services.source import clear_job, clear_work
from shared.errors import BackendUnavailable, JobInterrupted
from shared.jobs.store import UnknownJob
from shared.jobs.worker import JobContext, JobLost, JobReleased, TaskFunction, run_worker
from shared.models.data import IngestionCreate
from shared.models.jobs import FINAL_STATES
from shared.settings import Settings, load_settings


def build(settings: Settings) -> Mapping[str, TaskFunction]:
    """Return the tasks of this worker by name."""
    deps = wiring.build(settings)

    def has_ended(job_id: str) -> bool:
        try:
            return deps.jobs.get(job_id).state in FINAL_STATES
        except UnknownJob:
            return True

    def run_ingestion(context: JobContext) -> BaseModel:
        clear_work(deps.settings, has_ended)
        request = IngestionCreate.model_validate(context.job.payload)
        ingestion = Ingestion(context.job.id, context.job.project, request)
        try:
            return ingest_once(deps.ingestion, ingestion, context.progress)
        except (BackendUnavailable, JobInterrupted, JobLost, JobReleased):
            # Another attempt goes on with what is downloaded.
            raise
        except Exception:
            clear_job(deps.settings, context.job.id)
            raise

    return {"data.ingest": run_ingestion}


def main() -> None:
    """Work until told to stop."""
    run_worker("data", load_settings(), build)


if __name__ == "__main__":
    main()
