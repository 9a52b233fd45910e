"""Detectors that somebody else trained, with whatever: checked, and registered like our own."""

import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, BinaryIO

from shared.detector.info import (
    GRAPH_FILE,
    INFO_FILE,
    CorruptPackage,
    GraphInfo,
    check_file,
    read_any,
)
from shared.errors import BadRequest
from shared.models.registry import ModelView
from shared.registry import ModelRegistry, Registration
from training_service.app.services.copies import OtherClasses
from training_service.app.services.ports import DatasetReader

if TYPE_CHECKING:
    import onnx

MAX_INFO_BYTES = 1 << 20
_CHUNK = 1 << 20


def import_model(
    registry: ModelRegistry,
    datasets: DatasetReader,
    project: str,
    archive: BinaryIO,
    max_bytes: int,
) -> ModelView:
    """Register a detector, as `candidate`; the same one twice is one version.

    Args:
        registry: gets it.
        datasets: knows the project.
        project: whose classes it finds.
        archive: a zip of `model.json`, as `GraphInfo`, and `model.onnx`.
        max_bytes: that the graph may have.

    Raises:
        NotFound: the project does not exist.
        BadRequest: no zip with these two files, or a larger one.
        CorruptPackage: the files do not fit each other.
        OtherClasses: the project has other classes, or the same in another order.
    """
    classes = datasets.project(project).classes
    with TemporaryDirectory(prefix="fovea-import-") as name:
        folder = Path(name)
        _unpack(archive, folder, max_bytes)
        info = _checked(folder)
        if info.classes != classes:
            msg = (
                f"the detector finds {list(info.classes)}, and the classes of project "
                f"{project!r} are {list(classes)}"
            )
            raise OtherClasses(msg)
        return registry.register(
            Registration(
                project=project,
                job_id=f"import-{info.weights_sha256}",
                package=folder,
                classes=info.classes,
                weights_sha256=info.weights_sha256,
                dataset_version=None,
                dataset_hash="",
                round_id=None,
                params={"imported": "model.onnx", "image_size": info.image_size},
                metrics={},
                history={},
            )
        )


def _checked(folder: Path) -> GraphInfo:
    try:
        info = read_any(folder)
        if not isinstance(info, GraphInfo):
            msg = f"{INFO_FILE} has to be of kind 'graph', and is of kind {info.kind!r}"
            raise CorruptPackage(msg)
        check_file(folder / GRAPH_FILE, info.weights_sha256)
        _check_graph(folder / GRAPH_FILE, info)
    except CorruptPackage as exc:
        # Where it was unpacked is nobody's business.
        raise CorruptPackage(str(exc).replace(f"{folder}/", "")) from exc
    return info


def _unpack(archive: BinaryIO, folder: Path, max_bytes: int) -> None:
    try:
        with zipfile.ZipFile(archive) as opened:
            for name, limit in ((INFO_FILE, MAX_INFO_BYTES), (GRAPH_FILE, max_bytes)):
                with opened.open(name) as source, (folder / name).open("wb") as target:
                    n_bytes = 0
                    while chunk := source.read(_CHUNK):
                        n_bytes += len(chunk)
                        if n_bytes > limit:
                            msg = f"{name} has more than {limit} bytes"
                            raise BadRequest(msg)
                        target.write(chunk)
    except KeyError as exc:
        msg = f"the zip lacks a file: {exc.args[0]}"
        raise BadRequest(msg) from exc
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as exc:
        msg = f"no readable zip of {INFO_FILE} and {GRAPH_FILE}: {exc}"
        raise BadRequest(msg) from exc


def _check_graph(path: Path, info: GraphInfo) -> None:
    """See that the graph is one, holds all of its weights, and has what its description names."""
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        model = onnx.load(path, load_external_data=False)
    except DecodeError as exc:
        msg = f"{GRAPH_FILE} is no ONNX graph: {exc}"
        raise CorruptPackage(msg) from exc
    # They would be read from wherever it says.
    for tensor in _tensors(model):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            msg = f"{GRAPH_FILE} keeps weights in other files, as {tensor.name!r}: save it as one"
            raise CorruptPackage(msg)
    names = {each.name for each in (*model.graph.input, *model.graph.output)}
    wanted = (info.input.name, info.outputs.boxes, info.outputs.scores, info.outputs.embedding)
    for name in wanted:
        if name is not None and name not in names:
            msg = f"{GRAPH_FILE} has no input or output {name!r}: it has {sorted(names)}"
            raise CorruptPackage(msg)
    _check_shapes(model, info)


def _check_shapes(model: "onnx.ModelProto", info: GraphInfo) -> None:
    """See that what the graph says of its shapes is what the description means.

    It may leave any side open; what it does not say is seen when it first looks at an image.
    """
    from onnx.shape_inference import InferenceError, infer_shapes

    try:
        graph = infer_shapes(model).graph
    except InferenceError as exc:
        msg = f"{GRAPH_FILE} is no graph that can be computed: {exc}"
        raise CorruptPackage(msg) from exc
    pixels = (None, 3, None, None) if info.input.layout == "NCHW" else (None, None, None, 3)
    expected: list[tuple[str, tuple[int | None, ...]]] = [
        (info.input.name, pixels),
        (info.outputs.boxes, (None, None, 4)),
        (info.outputs.scores, (None, None, info.outputs.n_scores(len(info.classes)))),
    ]
    given = {each.name: _dims(each) for each in (*graph.input, *graph.output)}
    for name, wanted in expected:
        dims = given[name]
        if dims is not None and not _fits(dims, wanted):
            msg = (
                f"{GRAPH_FILE}: {name!r} has shape {_told(dims)}, and has to have {_told(wanted)} "
                f"by {INFO_FILE}"
            )
            raise CorruptPackage(msg)


def _fits(dims: Sequence[int | None], wanted: Sequence[int | None]) -> bool:
    return len(dims) == len(wanted) and all(
        dim is None or other is None or dim == other
        for dim, other in zip(dims, wanted, strict=True)
    )


def _dims(value: "onnx.ValueInfoProto") -> list[int | None] | None:
    if not value.type.tensor_type.HasField("shape"):
        return None
    dims = value.type.tensor_type.shape.dim
    return [dim.dim_value if dim.HasField("dim_value") else None for dim in dims]


def _told(dims: Sequence[int | None]) -> str:
    return f"({', '.join('any' if dim is None else str(dim) for dim in dims)})"


def _tensors(message: Any) -> Iterator["onnx.TensorProto"]:
    """Yield every tensor of a model, in whatever part of it."""
    import onnx

    if isinstance(message, onnx.TensorProto):
        yield message
        return
    for field, value in message.ListFields():
        if field.message_type is not None:
            for each in value if field.is_repeated else (value,):
                yield from _tensors(each)
