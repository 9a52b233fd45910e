"""Copies of models into other projects, which start from what is trained already."""

from pathlib import Path
from tempfile import TemporaryDirectory

from shared.errors import Conflict
from shared.models.registry import ModelCopy, ModelView
from shared.registry import ModelRegistry, Registration
from training_service.app.services.ports import DatasetReader


class OtherClasses(Conflict):
    """The model finds other classes than those of the project."""


def copy_model(
    registry: ModelRegistry, datasets: DatasetReader, project: str, request: ModelCopy
) -> ModelView:
    """Register a model version of another project in this one, as `candidate`.

    The copy has weights, metrics and a run of its own, so that its calibration is its own too; of
    the source's dataset version it keeps nothing, for numbers mean something else here. The same
    copy twice is one version.

    Raises:
        NotFound: the project does not exist.
        UnknownModel: the source has no such version.
        OtherClasses: the project has other classes, or the same in another order.
    """
    classes = datasets.project(project).classes
    source = registry.get(request.source_project, request.model_version)
    if source.classes != classes:
        msg = (
            f"model version {source.version} of project {source.project!r} finds "
            f"{list(source.classes)}, and the classes of project {project!r} are {list(classes)}"
        )
        raise OtherClasses(msg)
    copy_id = f"copy-{source.project}-{source.version}"
    found = registry.find_by_job(project, copy_id)
    if found is not None:
        registry.set_alias(project, "candidate", found.version)
        return registry.get(project, found.version)
    with TemporaryDirectory(prefix="fovea-copy-") as folder:
        package = registry.download(source.project, source.version, Path(folder))
        return registry.register(
            Registration(
                project=project,
                job_id=copy_id,
                package=package,
                classes=source.classes,
                weights_sha256=source.weights_sha256,
                dataset_version=None,
                dataset_hash="",
                round_id=None,
                params={"copied_from": f"{source.project} version {source.version}"},
                metrics=source.metrics,
                history={},
            )
        )
