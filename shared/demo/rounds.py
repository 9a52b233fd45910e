"""One round of the demo: started, answered by the oracle, watched to its end."""

from shared.cli.context import console
from shared.cli.loop import wait_round
from shared.cli.oracle import answer_tasks
from shared.client import GatewayClient
from shared.demo.options import DemoOptions
from shared.demo.report import CalibrationPart, RoundPart, RoundSeconds
from shared.errors import AppError
from shared.models.jobs import JobView
from shared.models.registry import CalibrationResult, TrainingResult
from shared.models.rounds import RoundCreate, RoundView, TrainingParams
from shared.models.strategies import RandomStrategy, describe, parse_strategy

LABELLING = frozenset({"labelling"})


def run_round(client: GatewayClient, project: str, index: int, options: DemoOptions) -> RoundPart:
    """Run one round to its end; the first is the cold start, which knows no model yet.

    Raises:
        AppError: the round failed; the message has its step and error.
    """
    strategy = RandomStrategy() if index == 1 else parse_strategy(options.strategy)
    console.rule(f"round {index}: {describe(strategy)}")
    training = TrainingParams(
        epochs=options.n_epochs, image_size=options.image_size, seed=options.seed
    )
    created = client.create_round(
        project,
        RoundCreate(
            strategy=strategy, budget=options.budget, training=training, seed=options.seed + index
        ),
    )
    found = wait_round(client, project, created.id, until=LABELLING)
    if found.state == "labelling":
        answer_tasks(client, project, created.id, seed=options.seed)
        found = wait_round(client, project, created.id)
    if found.state != "done":
        msg = f"round {index} is {found.state}: {found.error}"
        raise AppError(msg)
    return _part(client, project, found)


def calibration_of(client: GatewayClient, project: str, version: int) -> CalibrationPart:
    """Return what the calibration of a model version changed on test."""
    for job in client.jobs(project=project, state="succeeded", limit=1000):
        if job.kind == "calibration.calibrate":
            result = CalibrationResult.model_validate(job.result)
            if result.model_version == version:
                return CalibrationPart(before=result.before, after=result.after)
    msg = f"model v{version} of project {project!r} was not calibrated"
    raise AppError(msg)


def _part(client: GatewayClient, project: str, found: RoundView) -> RoundPart:
    jobs = {step.step: client.job(step.job_id) for step in found.steps}
    training = TrainingResult.model_validate(jobs["train"].result)
    version = client.dataset_version(project, training.dataset_version)
    test = training.metrics["test"]
    part = RoundPart(
        index=found.index,
        strategy=describe(found.request.strategy),
        n_labelled=version.n_images.get("train", 0),
        n_boxes=version.n_boxes.get("train", 0),
        map50=test.map50,
        map50_95=test.map50_95,
        model_version=training.model_version,
        promoted=bool(found.promoted),
        seconds=_seconds(jobs, training),
    )
    console.print(
        f"  {part.n_labelled} images, {part.n_boxes} boxes: mAP50 {part.map50:.3f} on test, "
        f"{'promoted' if part.promoted else 'not promoted'}",
        highlight=False,
    )
    return part


def _seconds(jobs: dict[str, JobView], training: TrainingResult) -> RoundSeconds:
    select, close = jobs["select"].finished_at, jobs["close"].finished_at
    label = (close - select).total_seconds() if select and close else 0.0
    return RoundSeconds(
        score=_of(jobs, "score"),
        select=_of(jobs, "select"),
        label=round(label, 2),
        train=round(training.seconds["train"], 2),
        evaluate=round(training.seconds["evaluate"], 2),
        calibrate=_of(jobs, "score_heldout") + _of(jobs, "calibrate"),
    )


def _of(jobs: dict[str, JobView], step: str) -> float:
    return round(jobs[step].seconds or 0.0, 2)
