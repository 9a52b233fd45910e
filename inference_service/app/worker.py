"""The inference worker: scores stored images and rebuilds the vector index."""

from collections.abc import Mapping

from inference_service.app.models.schemas import ReindexResult
from inference_service.app.wiring import build_worker
from shared.jobs.worker import JobContext, TaskFunction, run_worker
from shared.models.registry import ScoringCreate, ScoringResult
from shared.settings import Settings, load_settings


def build(settings: Settings) -> Mapping[str, TaskFunction]:
    """Return the tasks of the queue `inference`."""
    parts = build_worker(settings)

    def score(context: JobContext) -> ScoringResult:
        request = ScoringCreate.model_validate(context.job.payload)
        return parts.scorer.score(context.job.project, request, context.progress)

    def reindex(context: JobContext) -> ReindexResult:
        return parts.stored.reindex(context.job.project, context.progress)

    return {"inference.score": score, "inference.reindex": reindex}


def main() -> None:
    """Be the worker of the queue `inference` until told to stop."""
    run_worker("inference", load_settings(), build)


if __name__ == "__main__":
    main()
