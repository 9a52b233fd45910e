"""The one table that says which service answers which path."""

from collections.abc import Mapping
from typing import Literal, get_args

from shared.errors import BadRequest, NotFound
from shared.settings import Settings

Service = Literal[
    "data_service",
    "inference_service",
    "labeling_service",
    "training_service",
    "calibration_service",
    "evidently_service",
]
SERVICES: tuple[Service, ...] = get_args(Service)

# By the resource, the segment after the project: `/v1/projects/{project}/images`.
RESOURCES: Mapping[str, Service] = {
    "copies": "data_service",
    "uploads": "data_service",
    "ingestions": "data_service",
    "images": "data_service",
    "duplicate-groups": "data_service",
    "dataset-versions": "data_service",
    "predict": "inference_service",
    "predictions": "inference_service",
    "scorings": "inference_service",
    "reindexings": "inference_service",
    "serving": "inference_service",
    "similar-images": "inference_service",
    "similar-objects": "inference_service",
    "maps": "inference_service",
    "rounds": "labeling_service",
    "leases": "labeling_service",
    "tasks": "labeling_service",
    "simulations": "labeling_service",
    "trainings": "training_service",
    "evaluations": "training_service",
    "models": "training_service",
    "calibrations": "calibration_service",
    "gates": "calibration_service",
    "promotions": "calibration_service",
    "rollbacks": "calibration_service",
    "aliases": "calibration_service",
    "drift-reports": "evidently_service",
}

# What takes files as its body, however large they may be by the settings.
FILE_RESOURCES = frozenset({"uploads", "predict", "similar-images", "similar-objects"})
# Every other body is JSON, which a service reads whole.
MAX_JSON_BYTES = 32 << 20


def service_of(path: str) -> Service:
    """Return the service that answers a path.

    Raises:
        NotFound: no service has it.
        BadRequest: `.` or `..` segments, which could be routed as one thing and read as another.
    """
    match path.split("/"):
        case [*segments] if not {".", ".."}.isdisjoint(segments):
            msg = f"bad path: {path!r}"
            raise BadRequest(msg)
        case ["", "v1", "projects"] | ["", "v1", "projects", _] | ["", "v1", "files", *_]:
            return "data_service"
        case ["", "v1", "batches", *_]:
            return "inference_service"
        case ["", "v1", "projects", _, resource, *_] if resource in RESOURCES:
            return RESOURCES[resource]
        case _:
            msg = f"unknown path: {path!r}"
            raise NotFound(msg)


def max_body_bytes(path: str, max_upload_bytes: int) -> int:
    """Return how large a caller's body may be on a path."""
    match path.split("/"):
        case ["", "v1", "projects", _, resource, *_] if resource in FILE_RESOURCES:
            return max_upload_bytes
        case ["", "v1", "batches"] | ["", "v1", "projects", _, "models", "imports"]:
            return max_upload_bytes
        case _:
            return min(MAX_JSON_BYTES, max_upload_bytes)


def service_urls(settings: Settings) -> dict[Service, str]:
    """Return where each service is, without a slash at the end."""
    urls: dict[Service, str] = {
        "data_service": settings.data_url,
        "inference_service": settings.inference_url,
        "labeling_service": settings.labeling_url,
        "training_service": settings.training_url,
        "calibration_service": settings.calibration_url,
        "evidently_service": settings.evidently_url,
    }
    return {service: url.rstrip("/") for service, url in urls.items()}
