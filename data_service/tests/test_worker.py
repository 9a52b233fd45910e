from pathlib import Path

from data_service.app.wiring import Dependencies
from data_service.app.worker import build
from data_service.tests.builders import png, write_files
from shared.jobs.store import JobSubmit
from shared.jobs.worker import JobContext, JobRunner
from shared.models.data import IngestionCreate


def test_an_ingestion_removes_what_killed_ones_left_behind(
    deps: Dependencies, tmp_path: Path
) -> None:
    request = IngestionCreate(path=str(write_files(tmp_path / "roots", {"a.png": png(1)})))
    with deps.database.transaction() as session:
        submit = JobSubmit("data.ingest", "farm", request)
        job, queued, cancelled = (deps.jobs.submit(session, submit) for _ in range(3))
    deps.jobs.cancel(cancelled.id)
    work = deps.settings.state_dir / "ingestions"
    for job_id in (queued.id, cancelled.id, "unknown"):
        (work / job_id).mkdir(parents=True)
    claim = deps.jobs.claim(job.id, "here")
    assert claim is not None
    context = JobContext(claim, JobRunner("data", deps.jobs, deps.settings))
    report = build(deps.settings)["data.ingest"](context)
    assert report.model_dump()["n_added"] == 1
    assert [folder.name for folder in work.iterdir()] == [queued.id]
