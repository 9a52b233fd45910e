"""The worker of the training queue; torch lives in its child processes only."""

from collections.abc import Mapping

from shared.jobs.worker import JobCancelled, JobContext, TaskFunction, run_worker
from shared.models.registry import EvaluationResult, TrainingResult
from shared.settings import Settings, load_settings
from training_service.app.wiring import build_training


def build(settings: Settings) -> Mapping[str, TaskFunction]:
    """Return the tasks by name."""
    training = build_training(settings)

    def train(context: JobContext) -> TrainingResult:
        try:
            return training.train(context.job, context.progress)
        except JobCancelled:
            training.forget(context.job)
            raise

    def evaluate(context: JobContext) -> EvaluationResult:
        return training.evaluate(context.job, context.progress)

    return {"training.train": train, "training.evaluate": evaluate}


def main() -> None:
    """Work until told to stop."""
    run_worker("training", load_settings(), build)


if __name__ == "__main__":
    main()
