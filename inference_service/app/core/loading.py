"""From a model package to a detector in one of the engines."""

from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import torch

from inference_service.app.core.tapped_runtime import DetectorKind, TappedRuntime
from inference_service.app.core.torch_trunk import TorchTrunk
from inference_service.app.core.trunk import Head, Trunk
from shared.detector.info import checked_graph
from shared.detector.package import BASES, load_package, new_model
from shared.detector.ultralytics_env import DetectionModel
from shared.models.registry import Engine, EngineChoice

BASE_IMAGE_SIZE = 320
ENGINES: tuple[Engine, ...] = get_args(Engine)
IN_PYTORCH = EngineChoice(engine="pytorch")


@dataclass(frozen=True)
class RuntimeOptions:
    """How an engine computes.

    Attributes:
        threads: 0 means all cores.
        bf16: run PyTorch's convolutions in bfloat16 where there is no GPU.
        askers: threads that ask for a batch at once.
        waited_for: a batch that nobody else asks beside has all cores; else its share of them.
    """

    threads: int = 0
    bf16: bool = False
    askers: int = 1
    waited_for: bool = False


def torch_runtime(
    model: DetectionModel, kind: DetectorKind, options: RuntimeOptions
) -> TappedRuntime:
    """Return a detector in PyTorch; `model` is taken over."""
    head = Head.of(model)
    trunk = TorchTrunk(model, options.threads, bf16=options.bf16)
    return TappedRuntime(trunk, head.to(trunk.device), kind)


def load_runtime(
    folder: Path, options: RuntimeOptions | None = None, chosen: EngineChoice = IN_PYTORCH
) -> TappedRuntime:
    """Return the detector of a model package.

    Raises:
        CorruptPackage: the package is damaged, or has no graph for this engine.
    """
    how = options or RuntimeOptions()
    model, info = load_package(folder)
    kind = DetectorKind(info.classes, info.image_size, chosen)
    if chosen.engine == "pytorch":
        return torch_runtime(model, kind, how)
    trunk = _trunk(chosen.engine, checked_graph(folder, info), how)
    return TappedRuntime(trunk, Head.of(model), kind)


def load_base_runtime(
    base: str, downloads: Path, options: RuntimeOptions | None = None
) -> TappedRuntime:
    """Return a detector for embeddings, before any training.

    Args:
        base: as `shared.detector.package.new_model` takes it; the weights of `scratch` are random,
            but the same each time.
        downloads: as there.
        options: how PyTorch computes.

    Raises:
        UnknownBase: no base model has this name.
    """
    for folder in (BASES / base, Path(base)):
        if folder.is_dir():
            return load_runtime(folder, options)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = new_model(("object",), base, downloads)
    kind = DetectorKind(("object",), BASE_IMAGE_SIZE, IN_PYTORCH)
    return torch_runtime(model, kind, options or RuntimeOptions())


def _trunk(engine: Engine, graph: Path, options: RuntimeOptions) -> Trunk:
    # Imported where it is used: most processes load one engine alone.
    if engine == "openvino":
        from inference_service.app.core.openvino_trunk import OpenVinoTrunk

        return OpenVinoTrunk(graph, options.threads, options.askers, waited_for=options.waited_for)
    from inference_service.app.core.onnx_trunk import OnnxTrunk

    return OnnxTrunk(graph, options.threads)
