"""Model packages: `weights.safetensors`, `model.onnx` and `model.json`; nothing is unpickled."""

import copy
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from shared.detector.dropout import add_head_dropout, head_dropout
from shared.detector.info import (
    GRAPH_FILE,
    INFO_FILE,
    WEIGHTS_FILE,
    YOLOV8N,
    Architecture,
    CorruptPackage,
    PackageInfo,
    check_file,
    read_info,
)
from shared.detector.tapped import export_onnx
from shared.detector.ultralytics_env import YOLO, DetectionModel, yaml_model_load
from shared.errors import NotFound
from shared.files import file_sha256

BASES = Path(__file__).parent / "base"
SCRATCH = "scratch"


class UnknownBase(NotFound):
    """No base model has this name."""


@dataclass(frozen=True)
class PackageOptions:
    """What a model does not know about itself.

    Attributes:
        image_size: the longer side it was trained at, pixels.
        base: what the training started from.
        half: store the weights as 16-bit floats.
        graph: also write the graph for engines other than PyTorch.
    """

    image_size: int
    base: str
    half: bool = False
    graph: bool = False


def build_model(
    architecture: Architecture,
    classes: tuple[str, ...],
    kind: type[DetectionModel] = DetectionModel,
) -> DetectionModel:
    """Return a network with random weights, in `eval` mode; `kind` may be a subclass."""
    config = yaml_model_load("yolov8n.yaml")
    config["scales"] = {
        "n": [architecture.depth_multiple, architecture.width_multiple, architecture.max_channels]
    }
    model = kind(config, ch=3, nc=len(classes), verbose=False)
    model.names = dict(enumerate(classes))
    model.eval()
    return model


def new_model(
    classes: tuple[str, ...],
    base: str,
    downloads: Path,
    architecture: Architecture = YOLOV8N,
    kind: type[DetectionModel] = DetectionModel,
) -> DetectionModel:
    """Return a network for `classes` that starts from a base.

    Every tensor of the base whose name and shape fit is taken over; the rest stays random.

    Args:
        classes: names in the order of the class map.
        base: `scratch`, the name of a shipped package (`fovea-digits`), the folder of a package, or
            `yolov8n.pt`, Ultralytics' own file, which Ultralytics downloads from its own site and
            unpickles. No other pickle is ever read.
        downloads: where that file is kept, and looked for before it is downloaded.
        architecture: of the new network.
        kind: class of the new network.

    Raises:
        UnknownBase: none of these.
        CorruptPackage: the base's package is damaged.
    """
    model = build_model(architecture, classes, kind)
    if base != SCRATCH:
        transfer(_base_weights(base, downloads), model)
    return model


def transfer(weights: dict[str, torch.Tensor], model: DetectionModel) -> int:
    """Copy every tensor whose name and shape fit into `model`; return how many did."""
    own = model.state_dict()
    fitting = {k: v for k, v in weights.items() if k in own and own[k].shape == v.shape}
    model.load_state_dict(fitting, strict=False)
    return len(fitting)


def save_package(model: DetectionModel, folder: Path, options: PackageOptions) -> PackageInfo:
    """Write the package of `model` into `folder` and return its description."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / WEIGHTS_FILE
    tensors = {
        key: (value.half() if options.half and value.is_floating_point() else value)
        .detach()
        .cpu()
        .contiguous()
        for key, value in model.state_dict().items()
    }
    save_file(tensors, path)
    path.chmod(0o644)  # safetensors makes files that only their owner reads
    if options.graph:
        export_onnx(copy.deepcopy(model), folder / GRAPH_FILE)
    depth, width, channels = model.yaml["scales"][model.yaml["scale"]]
    info = PackageInfo(
        architecture=Architecture(
            depth_multiple=depth, width_multiple=width, max_channels=channels
        ),
        classes=tuple(model.names[i] for i in range(len(model.names))),
        image_size=options.image_size,
        base=options.base,
        dropout=head_dropout(model),
        weights_sha256=file_sha256(path),
        graph_sha256=file_sha256(folder / GRAPH_FILE) if options.graph else None,
    )
    (folder / INFO_FILE).write_text(info.model_dump_json(indent=2) + "\n")
    return info


def load_package(folder: Path) -> tuple[DetectionModel, PackageInfo]:
    """Return the network of a package, in `eval` mode with its dropout, and its description.

    Raises:
        CorruptPackage: a file is missing, the weights have another SHA-256 than `model.json` says,
            or their names and shapes do not fit the network.
    """
    info = read_info(folder)
    weights = _checked_weights(folder, info)
    model = build_model(info.architecture, info.classes)
    try:
        model.load_state_dict(weights)
    except RuntimeError as exc:
        msg = f"weights do not fit the network: {folder / WEIGHTS_FILE}: {exc}"
        raise CorruptPackage(msg) from exc
    add_head_dropout(model, info.dropout)
    return model, info


def _checked_weights(folder: Path, info: PackageInfo) -> dict[str, torch.Tensor]:
    path = folder / WEIGHTS_FILE
    check_file(path, info.weights_sha256)
    try:
        weights: dict[str, torch.Tensor] = load_file(path)
    except SafetensorError as exc:
        msg = f"corrupt file of a model package: {path}: {exc}"
        raise CorruptPackage(msg) from exc
    return weights


def _base_weights(base: str, downloads: Path) -> dict[str, torch.Tensor]:
    if base == "yolov8n.pt":
        # By its bare name it would be written into the working directory.
        path = downloads.resolve() / base
        official: dict[str, torch.Tensor] = YOLO(path).model.float().state_dict()
        return official
    for folder in (BASES / base, Path(base)):
        if folder.is_dir():
            return _checked_weights(folder, read_info(folder))
    msg = f"unknown base model: {base!r}"
    raise UnknownBase(msg)
