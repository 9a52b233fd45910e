"""Routes of the calibration service."""

from fastapi import APIRouter

from calibration_service.app.api.dependencies import DepsDep, ProjectDep
from calibration_service.app.services.promotion import promote, roll_back, serving_aliases
from shared.jobs.store import JobSubmit
from shared.models.jobs import JobView
from shared.models.registry import AliasView, CalibrationCreate, GateCreate, PromotionCreate

router = APIRouter(prefix="/v1/projects/{project}", tags=["calibration"])


@router.post("/calibrations", status_code=202)
def create_calibration(project: ProjectDep, body: CalibrationCreate, deps: DepsDep) -> JobView:
    """Fit thresholds and NMS on val; the job's result is a CalibrationResult."""
    model = deps.core.calibrator.model(project, body.model_version)
    deps.core.evidence.require_shards(project, model.version, "val")
    deps.core.evidence.require_shards(project, model.version, "test")
    pinned = body.model_copy(update={"model_version": model.version})
    with deps.database.transaction() as session:
        return deps.jobs.submit(session, JobSubmit("calibration.calibrate", project, pinned))


@router.post("/gates", status_code=202)
def create_gate(project: ProjectDep, body: GateCreate, deps: DepsDep) -> JobView:
    """Compare a model with the one in production; the job's result is a GateVerdict."""
    model = deps.core.calibrator.model(project, body.model_version)
    deps.core.evidence.require_shards(project, model.version, "gate")
    with deps.database.transaction() as session:
        return deps.jobs.submit(session, JobSubmit("calibration.gate", project, body))


@router.post("/promotions")
def create_promotion(project: ProjectDep, body: PromotionCreate, deps: DepsDep) -> AliasView:
    """Serve this model version from now on; the gate must be able to compare with it."""
    model = deps.core.calibrator.model(project, body.model_version)
    deps.core.evidence.require_comparable(project, model.version)
    return promote(deps.core.registry, project, body.model_version)


@router.post("/rollbacks")
def create_rollback(project: ProjectDep, deps: DepsDep) -> AliasView:
    """Serve the previous model version again."""
    return roll_back(deps.core.registry, project)


@router.get("/aliases")
def read_aliases(project: ProjectDep, deps: DepsDep) -> AliasView:
    """Return which model versions are in production and were before."""
    return serving_aliases(deps.core.registry, project)
