"""What the child process does: train, measure, draw; every file appears whole or not at all."""

import time
from pathlib import Path

from pydantic import BaseModel

from shared.detector.package import PackageOptions, load_package, save_package
from shared.models.data import Split
from shared.models.registry import Metrics
from training_service.app.services.child import OUTCOME, PROGRESS
from training_service.app.services.evaluation import evaluate
from training_service.app.services.plots import draw_losses, draw_predictions
from training_service.app.services.specs import (
    EvaluateOutcome,
    EvaluateSpec,
    Progress,
    TrainOutcome,
    TrainSpec,
)
from training_service.app.services.trainer import DetectorTraining, use_threads

# Of a job's progress; measuring and drawing share the rest.
TRAINING_SHARE = 0.9


def run(spec: TrainSpec | EvaluateSpec) -> None:
    """Do what `spec` says and write the outcome into its work folder."""
    outcome: TrainOutcome | EvaluateOutcome
    outcome = _train(spec) if isinstance(spec, TrainSpec) else _evaluate(spec)
    _write_whole(spec.work / OUTCOME, outcome)


def _train(spec: TrainSpec) -> TrainOutcome:
    def report(progress: Progress) -> None:
        _report(spec.work, progress.fraction * TRAINING_SHARE, progress.message)

    training = DetectorTraining(spec, report)
    training.run()
    options = PackageOptions(spec.params.image_size, spec.base, graph=True)
    info = save_package(training.ema.ema, spec.package, options)
    started = time.monotonic()
    metrics = _measure(spec)
    seconds = {"train": training.seconds, "evaluate": time.monotonic() - started}
    _report(spec.work, 0.98, "drawing")
    draw_losses(training.history, spec.plots / "losses.png")
    if "val" in spec.evaluate:
        images = sorted((spec.data_yaml.parent / "images" / "val").iterdir())
        draw_predictions(spec.package, images, spec.plots / "val_predictions.jpg")
    return TrainOutcome(
        weights_sha256=info.weights_sha256,
        metrics=metrics,
        history=training.history,
        seconds=seconds,
        n_iterations=training.n_iterations,
        precision="bfloat16" if training.bfloat16 else "float32",
    )


def _measure(spec: TrainSpec) -> dict[Split, Metrics]:
    model, info = load_package(spec.package)
    metrics: dict[Split, Metrics] = {}
    for split in spec.evaluate:
        _report(spec.work, 0.92, f"measuring on {split}")
        metrics[split] = evaluate(model, spec.data_yaml, split, info.image_size)
    return metrics


def _evaluate(spec: EvaluateSpec) -> EvaluateOutcome:
    use_threads(spec.threads)
    model, info = load_package(spec.package)
    _report(spec.work, 0.2, f"measuring on {spec.split}")
    metrics = evaluate(model, spec.data_yaml, spec.split, info.image_size)
    return EvaluateOutcome(metrics=metrics)


def _report(work: Path, fraction: float, message: str) -> None:
    _write_whole(work / PROGRESS, Progress(fraction=fraction, message=message))


def _write_whole(path: Path, content: BaseModel) -> None:
    beside = path.with_suffix(".tmp")
    beside.write_text(content.model_dump_json())
    beside.replace(path)
