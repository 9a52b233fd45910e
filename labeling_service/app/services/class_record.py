"""What the labels so far and the model's evaluation say of the classes."""

from collections import Counter
from collections.abc import Mapping

from labeling_service.app.core.gateway import Gateway
from labeling_service.app.core.strategies.classes import Classes


def unknown(names: tuple[str, ...]) -> Classes:
    """Return the classes without labels and without a measured model."""
    return Classes(names, (0,) * len(names), (None,) * len(names))


def read_classes(
    gateway: Gateway, project: str, names: tuple[str, ...], model_version: int | None
) -> Classes:
    """Return how many train labels of each class the newest dataset version has, and AP50 on val.

    Val, since the numbers of test must not choose anything. Without a model version, or where it
    was not measured, the AP50 is unknown.
    """
    newest = gateway.project(project).latest_version
    counts: Counter[int] = Counter()
    if newest is not None:
        for item in gateway.manifest(project, newest).items:
            if item.split == "train":
                counts.update(annotation.class_id for annotation in item.annotations)
    metrics = {} if model_version is None else gateway.model(project, model_version).metrics
    return Classes(
        names=names,
        n_labels=tuple(counts[class_id] for class_id in range(len(names))),
        ap50=tuple(_ap50(metrics, class_id) for class_id in range(len(names))),
    )


def _ap50(metrics: Mapping[str, float], class_id: int) -> float | None:
    # The rest of the key is the name, with what MLflow does not allow replaced.
    start = f"val/map50/{class_id} "
    return next((value for key, value in metrics.items() if key.startswith(start)), None)
