"""What `model.json` of a model package says; needs no network, and no Ultralytics."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field, PositiveFloat, ValidationError

from shared.errors import ValidationFailed
from shared.files import file_sha256
from shared.models.geometry import Frozen

WEIGHTS_FILE = "weights.safetensors"
INFO_FILE = "model.json"
GRAPH_FILE = "model.onnx"
SHA256 = r"^[0-9a-f]{64}$"


class CorruptPackage(ValidationFailed):
    """A file of a model package is missing, damaged, or does not fit the others."""


class Architecture(Frozen):
    """Which network: the shipped layer list of a family, scaled.

    Only numbers can be set: Ultralytics evaluates strings of a layer list as Python.
    """

    family: Literal["yolov8"] = "yolov8"
    depth_multiple: float = Field(default=0.33, gt=0, le=2)
    width_multiple: float = Field(default=0.25, gt=0, le=2)
    max_channels: int = Field(default=1024, ge=16, le=4096)


YOLOV8N = Architecture()


class PackageInfo(Frozen):
    """A network that Fovea trained: `weights.safetensors`, and mostly `model.onnx`."""

    schema_version: Literal[1] = 1
    kind: Literal["tapped"] = "tapped"
    architecture: Architecture
    classes: tuple[str, ...] = Field(min_length=1)
    image_size: int = Field(ge=32, multiple_of=32, description="Longer side trained at, pixels.")
    base: str = Field(description="What the training started from.")
    dropout: float = Field(ge=0, lt=1, description="Of the head, for Bayesian passes.")
    weights_sha256: str = Field(pattern=SHA256)
    graph_sha256: str | None = Field(
        default=None,
        pattern=SHA256,
        description="Of the graph for ONNX Runtime and OpenVINO; unset: the package has none.",
    )

    @property
    def weights_file(self) -> str:
        """Return the file that `weights_sha256` is of."""
        return WEIGHTS_FILE


class GraphInput(Frozen):
    """The one input of somebody's graph; RGB, values `(pixel * scale - mean) / std`.

    Its shape is the graph's own: a fixed height and width are filled exactly, free ones as far as
    the image needs. A graph with a batch of 1 sees one image at a time.
    """

    name: str
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    scale: float = Field(default=1 / 255, gt=0)
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[PositiveFloat, PositiveFloat, PositiveFloat] = (1.0, 1.0, 1.0)


class GraphOutputs(Frozen):
    """The outputs of somebody's graph: N boxes an image, with a score for each class."""

    boxes: str = Field(description="Name; shape (B, N, 4).")
    scores: str = Field(description="Name; shape (B, N, C), with the background one more.")
    embedding: str | None = Field(default=None, description="Name; shape (B, D), of the image.")
    box_format: Literal["xyxy", "cxcywh"] = "xyxy"
    normalised: bool = Field(description="Boxes in shares of the input; else in its pixels.")
    activation: Literal["none", "sigmoid", "softmax"] = Field(
        default="none", description="What makes scores in [0, 1] of the output."
    )
    background: Literal["none", "first", "last"] = "none"
    suppressed: bool = Field(default=False, description="The graph suppresses overlaps itself.")

    def n_scores(self, n_classes: int) -> int:
        """Return how many scores a box has."""
        return n_classes + (self.background != "none")


class GraphInfo(Frozen):
    """Somebody else's detector: `model.onnx` alone, any graph with boxes and scores."""

    schema_version: Literal[1] = 1
    kind: Literal["graph"]
    classes: tuple[str, ...] = Field(min_length=1)
    image_size: int = Field(ge=32, description="Longer side in the network, where it is free.")
    weights_sha256: str = Field(pattern=SHA256, description="Of `model.onnx`.")
    input: GraphInput
    outputs: GraphOutputs

    @property
    def weights_file(self) -> str:
        """Return the file that `weights_sha256` is of."""
        return GRAPH_FILE


class _Kind(BaseModel):
    kind: str = "tapped"


def read_any(folder: Path) -> PackageInfo | GraphInfo:
    """Return what `model.json` says, without looking at the weights.

    Raises:
        CorruptPackage: it is missing or not what it should be.
    """
    path = folder / INFO_FILE
    try:
        content = path.read_bytes()
        kind = GraphInfo if _Kind.model_validate_json(content).kind == "graph" else PackageInfo
        return kind.model_validate_json(content)
    except FileNotFoundError as exc:
        msg = f"missing file of a model package: {path}"
        raise CorruptPackage(msg) from exc
    except ValidationError as exc:
        first = exc.errors()[0]
        where = ".".join(map(str, first["loc"])) or "JSON"
        msg = f"corrupt file of a model package: {path}: {where}: {first['msg']}"
        raise CorruptPackage(msg) from exc


def read_info(folder: Path) -> PackageInfo:
    """Return what `model.json` says of a network that Fovea trained.

    Raises:
        CorruptPackage: it is missing or not what it should be, or of somebody else's detector.
    """
    info = read_any(folder)
    if isinstance(info, GraphInfo):
        msg = f"not a network that Fovea trained: {folder / INFO_FILE}: kind {info.kind!r}"
        raise CorruptPackage(msg)
    return info


def checked_graph(folder: Path, info: PackageInfo) -> Path:
    """Return where the graph of a package lies.

    Raises:
        CorruptPackage: it is missing, or has another SHA-256 than `model.json` says.
    """
    path = folder / GRAPH_FILE
    check_file(path, info.graph_sha256)
    return path


def check_file(path: Path, sha256: str | None) -> None:
    """See that a file is there and is the one that a description means.

    Raises:
        CorruptPackage: it is missing, or has another SHA-256; without one there should be none.
    """
    if sha256 is None or not path.is_file():
        msg = f"missing file of a model package: {path}"
        raise CorruptPackage(msg)
    found = file_sha256(path)
    if found != sha256:
        msg = f"corrupt file of a model package: {path}: SHA-256 is {found}"
        raise CorruptPackage(msg)
