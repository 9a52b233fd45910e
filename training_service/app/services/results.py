"""From a training's outcome to MLflow's flat metrics, and back from a model to its result."""

import re

from shared.models.data import SPLITS, Split
from shared.models.registry import Metrics, ModelView, TrainingResult
from training_service.app.services.specs import TrainOutcome

_NOT_ALLOWED = re.compile(r"[^\w\-. ]")


def flat_metrics(outcome: TrainOutcome, classes: tuple[str, ...]) -> dict[str, float]:
    """Return `test/map50`, `test/map50/<class>`, … `seconds/train`, `n_iterations`."""
    flat = {f"seconds/{name}": value for name, value in outcome.seconds.items()}
    flat["n_iterations"] = float(outcome.n_iterations)
    for split, metrics in outcome.metrics.items():
        flat[f"{split}/map50"] = metrics.map50
        flat[f"{split}/map50_95"] = metrics.map50_95
        flat[f"{split}/n_images"] = float(metrics.n_images)
        for class_id, name in enumerate(classes):
            if name in metrics.per_class_map50:
                flat[_class_key(split, class_id, name)] = metrics.per_class_map50[name]
    return flat


def result_of(model: ModelView) -> TrainingResult:
    """Return the result of the training that made `model`, from what was logged of it."""
    return TrainingResult(
        project=model.project,
        model_version=model.version,
        dataset_version=model.dataset_version or 0,
        weights_sha256=model.weights_sha256,
        metrics={s: _metrics(model, s) for s in SPLITS if f"{s}/map50" in model.metrics},
        seconds={
            name.removeprefix("seconds/"): value
            for name, value in model.metrics.items()
            if name.startswith("seconds/")
        },
        n_iterations=int(model.metrics["n_iterations"]),
    )


def _metrics(model: ModelView, split: Split) -> Metrics:
    keys = {name: _class_key(split, i, name) for i, name in enumerate(model.classes)}
    return Metrics(
        map50=model.metrics[f"{split}/map50"],
        map50_95=model.metrics[f"{split}/map50_95"],
        per_class_map50={n: model.metrics[k] for n, k in keys.items() if k in model.metrics},
        n_images=int(model.metrics[f"{split}/n_images"]),
    )


def _class_key(split: Split, class_id: int, name: str) -> str:
    # MLflow refuses some characters; the number keeps two names apart that differ only in those.
    return f"{split}/map50/{class_id} {_NOT_ALLOWED.sub('_', name)}"
