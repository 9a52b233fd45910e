"""The labelling worker: selects images and closes rounds."""

from collections.abc import Mapping

from labeling_service.app.models.schemas import ClosingResult, RoundStep, SelectionResult
from labeling_service.app.services.closing import Closer
from labeling_service.app.services.selection import Selector
from labeling_service.app.wiring import build as build_dependencies
from shared.jobs.worker import JobContext, TaskFunction, run_worker
from shared.objects.wiring import object_store
from shared.settings import Settings, load_settings


def build(settings: Settings) -> Mapping[str, TaskFunction]:
    """Return the tasks of the queue `labeling`."""
    deps = build_dependencies(settings)
    selector = Selector(deps.database, object_store(settings), deps.client, deps.labelling)
    closer = Closer(deps.database, deps.client, deps.labelling)

    def select(context: JobContext) -> SelectionResult:
        context.progress(0.0, "choosing images")
        return selector.select(RoundStep.model_validate(context.job.payload).round_id)

    def close(context: JobContext) -> ClosingResult:
        context.progress(0.0, "closing the round")
        return closer.close(RoundStep.model_validate(context.job.payload).round_id)

    return {"labeling.select": select, "labeling.close": close}


def main() -> None:
    """Be the worker of the queue `labeling` until told to stop."""
    run_worker("labeling", load_settings(), build)


if __name__ == "__main__":
    main()
