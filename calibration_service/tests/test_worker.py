from pathlib import Path

import pytest

from calibration_service.app import wiring, worker
from calibration_service.tests.conftest import AddModel
from calibration_service.tests.synthetic import LEFT, NOWHERE, World, write
from shared.database import Base, Database
from shared.jobs.bell import Bell, make_celery
from shared.jobs.store import JobStore, JobSubmit
from shared.jobs.worker import JobRunner
from shared.models.registry import CalibrationCreate, CalibrationResult, GateCreate, GateVerdict
from shared.objects.port import ObjectStore
from shared.settings import Settings


@pytest.fixture
def settings(tmp_path: Path, mlflow_url: str) -> Settings:
    return Settings.model_validate(
        {
            "database_url": f"sqlite:///{tmp_path}/fovea.db",
            "broker_url": "memory://",
            "object_store_url": f"file:{tmp_path}/objects",
            "mlflow_url": mlflow_url,
            "service_key": "s" * 32,
            "signing_key": "s" * 32,
        }
    )


def test_both_jobs_run_to_their_results(
    settings: Settings,
    world: World,
    store: ObjectStore,
    add_model: AddModel,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(wiring, "GatewayClient", lambda *_: world)
    add_model(world.name)
    for split in ("val", "gate", "test"):
        world.label(split, [[(LEFT, 0)]] * 12)
        seen = [[(LEFT, 0, 0.9), (NOWHERE, 0, 0.5)]] * 12
        write(store, world.name, 1, split, seen)
    database = Database(settings.database_url)
    Base.metadata.create_all(database.engine)
    jobs = JobStore(database, Bell(make_celery(settings)), settings)
    tasks = worker.build(settings)
    with database.transaction() as session:
        calibration = JobSubmit("calibration.calibrate", world.name, CalibrationCreate())
        gate = JobSubmit("calibration.gate", world.name, GateCreate(model_version=1))
        submitted = [jobs.submit(session, job) for job in (calibration, gate)]
    runner = JobRunner("calibration", jobs, settings)
    for job in submitted:
        runner.run(job.id, tasks[job.kind])
    ended = [jobs.get(job.id) for job in submitted]
    database.close()
    assert [job.state for job in ended] == ["succeeded", "succeeded"]
    result = CalibrationResult.model_validate(ended[0].result)
    assert (result.kept, result.before.precision, result.after.precision) == (True, 0.5, 1.0)
    assert GateVerdict.model_validate(ended[1].result).promoted
