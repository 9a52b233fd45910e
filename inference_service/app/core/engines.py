"""Which engine is fastest for a network on this machine: measured once, and remembered."""

import fcntl
import math
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import structlog
import torch
from pydantic import Field, ValidationError

from inference_service.app.core.loading import ENGINES, RuntimeOptions, load_runtime
from inference_service.app.core.runtime import DetectionOptions, DetectorRuntime, RuntimeInput
from inference_service.app.core.trunk import BATCH
from shared.cores import usable_cores
from shared.detector.info import PackageInfo, read_info
from shared.models.geometry import Frozen
from shared.models.registry import Engine, EngineChoice

log = structlog.stdlib.get_logger()

LIBRARIES = ("torch", "onnxruntime", "openvino")
TURNS = 4


class Choices(Frozen):
    """What was measured on this machine, by network; networks of one shape are equally fast."""

    by_network: dict[str, EngineChoice] = Field(default={})


@dataclass(frozen=True)
class Engines:
    """Loads detectors in the engine that is fastest for them here.

    Attributes:
        path: of the file that remembers what was measured.
        options: how an engine computes.
        given: the engine to take without measuring, if it can.
    """

    path: Path
    options: RuntimeOptions
    given: Engine | None = None

    def load(self, folder: Path) -> DetectorRuntime:
        """Return the detector of a model package.

        The first of its shape is measured, a few seconds; a package without a graph has PyTorch
        alone.

        Raises:
            CorruptPackage: the package is damaged.
        """
        return load_runtime(folder, self.options, self.choose(folder))

    def choose(self, folder: Path) -> EngineChoice:
        """Return the engine for a package.

        Raises:
            CorruptPackage: the package is damaged.
        """
        info = read_info(folder)
        machine = this_machine(self.options)
        if info.graph_sha256 is None or self.given is not None:
            engine = self.given if info.graph_sha256 and self.given else "pytorch"
            return EngineChoice(engine=engine, machine=machine)
        with self._locked():
            known = self._read()
            # Processes with other threads remember theirs beside it.
            network = f"{_network(info)}, {_threads(self.options)}"
            choice = known.by_network.get(network)
            if choice is None or choice.machine != machine:
                choice = measure(folder, self.options)
                self._write(Choices(by_network={**known.by_network, network: choice}))
                log.info("engine.chosen", network=network, **choice.model_dump())
        return choice

    def _read(self) -> Choices:
        try:
            return Choices.model_validate_json(self.path.read_bytes())
        except FileNotFoundError:
            return Choices()
        except ValidationError as exc:
            log.warning("engine.measured_again", path=str(self.path), reason=str(exc))
            return Choices()

    def _write(self, choices: Choices) -> None:
        # Half a file would have every model refused.
        beside = self.path.with_suffix(".tmp")
        beside.write_text(choices.model_dump_json(indent=2) + "\n")
        beside.replace(self.path)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Let one process measure at a time: they would slow each other down."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.with_suffix(".lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def measure(folder: Path, options: RuntimeOptions) -> EngineChoice:
    """Return the fastest engine for a package with a graph.

    Other work on the machine comes and goes: they take turns, and the best of each counts. One
    thread asks, so that every process with as many threads can go by it.

    Raises:
        CorruptPackage: the package is damaged.
    """
    batch = _photos(read_info(folder).image_size)
    alone = replace(options, askers=1)
    runtimes = {e: load_runtime(folder, alone, EngineChoice(engine=e)) for e in ENGINES}
    seconds = dict.fromkeys(ENGINES, math.inf)
    # The first turn compiles and warms up.
    for turn in range(TURNS + 1):
        for engine, runtime in runtimes.items():
            took = _seconds(runtime, batch)
            seconds[engine] = min(seconds[engine], took) if turn else math.inf
    return EngineChoice(
        engine=min(seconds, key=lambda engine: seconds[engine]),
        machine=this_machine(options),
        images_per_s={engine: round(BATCH / took, 2) for engine, took in seconds.items()},
    )


def this_machine(options: RuntimeOptions) -> str:
    """Return what a measurement holds for: processor, threads, libraries."""
    libraries = (f"{name} {version(name)}" for name in LIBRARIES)
    return ", ".join((_processor(), *_gpus(), _threads(options), *libraries))


def _gpus() -> list[str]:
    return [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())]


def _threads(options: RuntimeOptions) -> str:
    return f"{options.threads or usable_cores()} threads"


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


def _photos(width: int) -> list[RuntimeInput]:
    """Return a whole batch of landscape photos of the model's own size."""
    rng = np.random.default_rng(0)
    shape = (round(width * 3 / 4), width, 3)
    return [
        RuntimeInput(rng.integers(0, 256, shape, dtype=np.uint8), seed) for seed in range(BATCH)
    ]


def _seconds(runtime: DetectorRuntime, batch: list[RuntimeInput]) -> float:
    started = time.perf_counter()
    runtime.detect(batch, DetectionOptions())
    return time.perf_counter() - started


def _network(info: PackageInfo) -> str:
    """Return what the speed of a package depends on."""
    shape = info.architecture.model_dump_json()
    return f"{shape}, {len(info.classes)} classes, {info.image_size} px"
