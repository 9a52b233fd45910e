from fastapi.testclient import TestClient

from inference_service.app.wiring import Dependencies, WorkerParts
from inference_service.app.worker import tasks
from inference_service.tests.neighbours import PROJECT, LocalGateway
from shared.jobs.worker import JobRunner
from shared.models.registry import ScoringResult
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

    assert score(second) == "queued"
    assert deps.jobs.get(second).message == (f"waiting: inference.score {first} comes first")
    assert score(other) == "succeeded"
    assert score(first) == "succeeded"
    assert score(second) == "succeeded"
    results = [ScoringResult.model_validate(deps.jobs.get(i).result) for i in (first, second)]
    assert [(r.n_scored, r.n_known) for r in results] == [(3, 0), (0, 3)]
    assert results[0].images_per_s > 0


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
