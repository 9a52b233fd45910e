from fastapi.testclient import TestClient

from inference_service.app.wiring import Dependencies, WorkerParts
from inference_service.app.worker import tasks
from inference_service.tests.neighbours import PROJECT, LocalGateway
from shared.jobs.parts import Part, insert_parts, waiting_part
from shared.jobs.worker import JobRunner
from shared.models.registry import ScoringCreate, ScoringResult
from shared.settings import Settings

URL = f"/v1/projects/{PROJECT}/scorings"


def test_of_two_scorings_of_one_version_the_older_goes_first(
    client: TestClient, worker: WorkerParts, settings: Settings, gateway: LocalGateway
) -> None:
    for n in range(3):
        gateway.add(n)
    deps: Dependencies = client.app_state["deps"]
    bodies: tuple[dict[str, int], ...] = ({"model_version": 1}, {"model_version": 1}, {})
    first, second, other = (client.post(URL, json=body).json()["id"] for body in bodies)
    runner = JobRunner("inference", deps.jobs, settings)

    def score(job_id: str) -> str:
        runner.run(job_id, tasks(worker)["inference.score"])
        return deps.jobs.get(job_id).state

    # Not "waiting", which would call a back end unsteady.
    assert runner.run(second, tasks(worker)["inference.score"]) == "behind"
    assert score(second) == "queued"
    assert deps.jobs.get(second).message == (f"waiting: inference.score {first} comes first")
    assert score(other) == "succeeded"
    assert score(first) == "succeeded"
    assert score(second) == "succeeded"
    results = [ScoringResult.model_validate(deps.jobs.get(i).result) for i in (first, second)]
    assert [(r.n_scored, r.n_known) for r in results] == [(3, 0), (0, 3)]
    assert results[0].images_per_s > 0


def test_a_worker_that_only_helped_lets_go_of_the_model(
    client: TestClient, worker: WorkerParts, settings: Settings, gateway: LocalGateway
) -> None:
    for n in range(3):
        gateway.add(n)
    deps: Dependencies = client.app_state["deps"]
    job = client.post(URL, json={"model_version": 1}).json()["id"]
    runner = JobRunner("inference", deps.jobs, settings)
    claim = deps.jobs.claim(job, "another")
    assert claim is not None
    (planned,) = worker.scorer.plan(PROJECT, ScoringCreate(model_version=1))
    parts = [Part(planned, planned.n_images)] * 2
    assert insert_parts(deps.jobs, claim, "inference.score_part", parts)
    for left in (1, 0):
        part = waiting_part(deps.jobs, job)
        assert part is not None
        assert runner.run(part, tasks(worker)["inference.score_part"]) == "succeeded"
        assert (worker.loaded._loaded is not None) == bool(left)


def test_an_index_is_not_made_anew_beside_a_scoring(
    client: TestClient, worker: WorkerParts, settings: Settings, gateway: LocalGateway
) -> None:
    images = [gateway.add(n) for n in range(3)]
    deps: Dependencies = client.app_state["deps"]
    paths = ("scorings", "reindexings", "scorings")
    jobs = [client.post(f"/v1/projects/{PROJECT}/{path}", json={}).json() for path in paths]
    runner = JobRunner("inference", deps.jobs, settings)
    told = []
    for job in (jobs[2], jobs[1], jobs[0], jobs[2], jobs[1], jobs[2]):
        runner.run(job["id"], tasks(worker)[job["kind"]])
        told.append(deps.jobs.get(job["id"]).state)
    assert told == ["queued", "queued", "succeeded", "queued", "succeeded", "succeeded"]
    assert worker.index.vectors.count(f"{PROJECT}-v0") == len(images)
