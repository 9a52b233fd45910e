"""The calibration worker: task shells around the services."""

from collections.abc import Mapping

from calibration_service.app.wiring import build_core
from shared.jobs.worker import JobContext, TaskFunction, run_worker
from shared.models.registry import (
    CalibrationCreate,
    CalibrationResult,
    GateCreate,
    GateVerdict,
)
from shared.settings import Settings, load_settings


def build(settings: Settings) -> Mapping[str, TaskFunction]:
    """Return the tasks of the calibration queue."""
    core = build_core(settings)

    def calibrate(context: JobContext) -> CalibrationResult:
        request = CalibrationCreate.model_validate(context.job.payload)
        return core.calibrator.calibrate(context.job.project, request, context.progress)

    def gate(context: JobContext) -> GateVerdict:
        request = GateCreate.model_validate(context.job.payload)
        return core.gate.decide(context.job.project, request, context.progress)

    return {"calibration.calibrate": calibrate, "calibration.gate": gate}


def main() -> None:
    """Work until told to stop."""
    run_worker("calibration", load_settings(), build)


if __name__ == "__main__":
    main()
