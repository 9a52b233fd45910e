"""Which engine is fastest for a model on this machine: measured once, and kept with its files."""

import os
import platform
import statistics
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import structlog

from inference_service.app.core.loading import ENGINES, Engine, RuntimeOptions, load_runtime
from inference_service.app.core.runtime import DetectionOptions, DetectorRuntime, RuntimeInput
from inference_service.app.core.tapped_runtime import BATCH
from shared.detector.package import read_info
from shared.models.geometry import Frozen

log = structlog.stdlib.get_logger()

CHOICE_FILE = "engine.json"
LIBRARIES = ("torch", "onnxruntime", "openvino")
REPEATS = 3


class EngineChoice(Frozen):
    """What was measured: images a second of each engine, whole batches at the model's own size."""

    machine: str
    engine: Engine
    images_per_s: dict[Engine, float]


def load_fastest(folder: Path, options: RuntimeOptions) -> DetectorRuntime:
    """Return the detector of a model package in the engine that is fastest for it here.

    Measured at the first load, a few seconds; a package without a graph has PyTorch alone.

    Raises:
        CorruptPackage: the package is damaged.
    """
    graph = read_info(folder).graph_sha256
    engine = choose(folder, options).engine if graph else "pytorch"
    return load_runtime(folder, options, engine)


def choose(folder: Path, options: RuntimeOptions) -> EngineChoice:
    """Return the choice that lies beside the package, measured now if it was not made here.

    Raises:
        CorruptPackage: the package is damaged, or has no graph.
    """
    path, machine = folder / CHOICE_FILE, this_machine(options)
    if path.is_file():
        kept = EngineChoice.model_validate_json(path.read_bytes())
        if kept.machine == machine:
            return kept
    measured = {engine: _speed(folder, options, engine) for engine in ENGINES}
    choice = EngineChoice(
        machine=machine,
        engine=max(measured, key=lambda engine: measured[engine]),
        images_per_s={engine: round(speed, 2) for engine, speed in measured.items()},
    )
    # Half a file would have the model refused at every load.
    beside = path.with_suffix(f".{os.getpid()}")
    beside.write_text(choice.model_dump_json(indent=2) + "\n")
    beside.replace(path)
    log.info("engine.chosen", **choice.model_dump())
    return choice


def this_machine(options: RuntimeOptions) -> str:
    """Return what a measurement holds for: processor, threads, libraries."""
    cores = f"{options.threads or os.cpu_count()} threads"
    libraries = (f"{name} {version(name)}" for name in LIBRARIES)
    return ", ".join((_processor(), cores, *libraries))


def _processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Return its name and what it computes with: virtual machines of one name differ in this."""
    if not cpuinfo.exists():
        return platform.processor() or platform.machine()
    first = cpuinfo.read_text().split("\n\n")[0]
    parts = (line.partition(":") for line in first.splitlines())
    told = {key.strip(): value.strip() for key, _, value in parts}
    flags = set(told.get("flags", "").split())
    known = [f for f in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if f in flags]
    return " ".join([told.get("model name", platform.machine()), *known])


def _speed(folder: Path, options: RuntimeOptions, engine: Engine) -> float:
    """Return images a second of whole batches of landscape photos of the model's own size."""
    width = read_info(folder).image_size
    shape = (round(width * 3 / 4), width)
    runtime = load_runtime(folder, options, engine)
    rng = np.random.default_rng(0)
    batch = [
        RuntimeInput(rng.integers(0, 256, (*shape, 3), dtype=np.uint8), seed)
        for seed in range(BATCH)
    ]
    seconds = []
    # The first compiles and warms up.
    for _ in range(REPEATS + 1):
        started = time.perf_counter()
        runtime.detect(batch, DetectionOptions())
        seconds.append(time.perf_counter() - started)
    return BATCH / statistics.median(seconds[1:])
