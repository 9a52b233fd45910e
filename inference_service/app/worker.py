"""The inference worker: scores stored images and rebuilds the vector index."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from inference_service.app.models.schemas import (
    BatchJob,
    BatchPart,
    BatchPartResult,
    DeletedFiles,
    ReindexResult,
    ScoredPart,
    ScoringPart,
)
from inference_service.app.services.batch_files import delete_files
from inference_service.app.services.loaded import LoadedModel
from inference_service.app.wiring import WorkerParts, build_worker
from shared.errors import ComesLater
from shared.jobs.in_parts import Parts, run_in_parts
from shared.jobs.parts import Part, waiting_part
from shared.jobs.retire import deletion_kind
from shared.jobs.worker import JobContext, TaskFunction, run_worker
from shared.models.batches import BATCH_KIND
from shared.models.jobs import JobView
from shared.models.registry import ScoringCreate, ScoringResult
from shared.models.search import MapCreate, MapResult
from shared.settings import Settings, load_settings


def build(settings: Settings) -> Mapping[str, TaskFunction]:
    """Return the tasks of the queue `inference`."""
    return tasks(build_worker(settings))


def tasks(parts: WorkerParts) -> Mapping[str, TaskFunction]:
    """Return the tasks, made of these parts."""
    return {**_scoring_tasks(parts), **_batch_tasks(parts), **_search_tasks(parts)}


def _scoring_tasks(parts: WorkerParts) -> Mapping[str, TaskFunction]:
    def score(context: JobContext) -> ScoringResult:
        project = context.job.project
        request = ScoringCreate.model_validate(context.job.payload)

        def plan() -> list[Part]:
            context.progress(0.0, "listing images")
            wait_for_older(context)
            return [Part(part, part.n_images) for part in parts.scorer.plan(project, request)]

        in_parts = Parts("inference.score_part", "images", plan, score_part)
        try:
            done = [ScoredPart.model_validate(r) for r in run_in_parts(context, in_parts)]
        finally:
            parts.loaded.forget()
        if request.consistency and request.model_version is not None:
            parts.scorer.settle(project, request.model_version)
        n_scored = sum(part.n_scored for part in done)
        return ScoringResult(
            project=project,
            model_version=request.model_version,
            n_scored=n_scored,
            n_known=sum(part.n_known for part in done),
            images_per_s=n_scored / max(context.seconds, 1e-9),
        )

    def score_part(context: JobContext) -> ScoredPart:
        part = ScoringPart.model_validate(context.job.payload)
        with forgotten_at_the_end(context, parts.loaded):
            return parts.scorer.score_part(context.job.project, part, context.progress)

    return {"inference.score": score, "inference.score_part": score_part}


def _batch_tasks(parts: WorkerParts) -> Mapping[str, TaskFunction]:
    def batch(context: JobContext) -> BatchPartResult:
        project = context.job.project
        given = BatchJob.model_validate(context.job.payload)

        def plan() -> list[Part]:
            pieces = parts.answerer.plan(project, given)
            return [Part(piece, size) for piece, size in zip(pieces, given.sizes, strict=True)]

        in_parts = Parts("inference.batch_part", "lines", plan, batch_part)
        try:
            done = [BatchPartResult.model_validate(r) for r in run_in_parts(context, in_parts)]
        finally:
            parts.loaded.forget()
        return BatchPartResult(
            n_answered=sum(part.n_answered for part in done),
            n_failed=sum(part.n_failed for part in done),
            n_expired=sum(part.n_expired for part in done),
        )

    def batch_part(context: JobContext) -> BatchPartResult:
        part = BatchPart.model_validate(context.job.payload)
        with forgotten_at_the_end(context, parts.loaded):
            return parts.answerer.answer(context.job.project, part, context.progress)

    def delete_batch(context: JobContext) -> DeletedFiles:
        given = BatchJob.model_validate(context.job.payload)
        store = parts.answerer.store
        return DeletedFiles(
            n_files=delete_files(store, context.job.project, given.batch_id, context.progress)
        )

    return {
        BATCH_KIND: batch,
        "inference.batch_part": batch_part,
        deletion_kind(BATCH_KIND): delete_batch,
    }


def _search_tasks(parts: WorkerParts) -> Mapping[str, TaskFunction]:
    def reindex(context: JobContext) -> ReindexResult:
        wait_for_older(context)
        return parts.index.rebuild(context.job.project, parts.stored, context.progress)

    def make_map(context: JobContext) -> MapResult:
        request = MapCreate.model_validate(context.job.payload)
        return parts.maps.make(context.job.project, request, context.progress)

    return {"inference.reindex": reindex, "inference.map": make_map}


@contextmanager
def forgotten_at_the_end(context: JobContext, loaded: LoadedModel) -> Iterator[None]:
    """Let go of the model after a part that no other of its job waits behind.

    A worker that only helps does not hear how the job itself ends.
    """
    try:
        yield
    finally:
        parent = context.job.parent_id
        if parent is None or waiting_part(context.store, parent) is None:
            loaded.forget()


def wait_for_older(context: JobContext) -> None:
    """See that no older job of the project is under way that this one would get in the way of.

    Two scorings of one model version would score the same; an index made anew beside a scoring
    would lose what goes in after the old one is gone and before its shard is there.

    Raises:
        ComesLater: one is; this job is put back until it is over.
    """
    job = context.job
    for kind in ("inference.score", "inference.reindex"):
        for state in ("running", "queued"):
            for other in context.store.list(project=job.project, kind=kind, state=state):
                older = (other.created_at, other.id) < (job.created_at, job.id)
                if older and not _is_scoring_of_another_version(job, other):
                    msg = f"{other.kind} {other.id} comes first"
                    raise ComesLater(msg)


def _is_scoring_of_another_version(job: JobView, other: JobView) -> bool:
    if job.kind != "inference.score" or other.kind != "inference.score":
        return False
    one, two = (ScoringCreate.model_validate(each.payload) for each in (job, other))
    return one.model_version != two.model_version


def main() -> None:
    """Be the worker of the queue `inference` until told to stop."""
    settings = load_settings()
    run_worker("inference", settings.divided(settings.n_inference_workers), build)


if __name__ == "__main__":
    main()
