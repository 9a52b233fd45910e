"""Measure serving beside FastAPI and LitServe around the same model, in the same run.

    python -m inference_service.scripts.bench_serving [--seconds 8] [--repeats 3] [--clients 1 8 32]

Every system is sent the same JPEG photos of 640x480, as uploads over HTTP, and answers with the
boxes of the same network: yolov8n, trained, 640 pixels. `bench_serving_plain` has the plain ones;
Fovea is a whole embedded stack, asked directly (`fovea`) and through its gateway (`gateway`).
Clients send their next photo when they have the answer to the last. While one system is measured
the others are stopped (SIGSTOP): an idle LitServe takes a fifth of a core. Repeats are interleaved,
so that other work on the machine meets all; the median counts. On a machine with many cores
LitServe and Fovea have several processes with a model each, one for every four of them.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from inference_service.app.core.engines import Engines, this_machine
from inference_service.app.core.loading import ENGINES, RuntimeOptions
from inference_service.scripts.bench_photos import make_package, make_photos, photos_of
from inference_service.scripts.bench_serving_load import (
    Load,
    UnexpectedAnswer,
    added_p50_ms,
    answers_of,
    form_of,
    measure,
)
from inference_service.scripts.bench_serving_plain import (
    BATCH_TIMEOUT_S,
    MAX_BATCH,
    PLAIN,
    YoloDetector,
    threads_of,
)
from inference_service.scripts.bench_serving_systems import System, fovea, plain_server
from shared.cores import usable_cores
from shared.errors import AppError
from shared.local.stack import stop_on_sigterm
from shared.models.registry import Engine, EngineChoice
from shared.settings import CORES_OF_A_WORKER
from shared.thresholds import DEFAULT_SCORE, overlaps

N_PHOTOS = 64
LIBRARIES = ("ultralytics", "torch", "openvino", "onnxruntime", "litserve", "fastapi", "uvicorn")
# What makes two boxes the same, and the share of the boxes that must be: in bfloat16 scores differ
# by 0.02, and some cross the threshold. Of another photo's boxes hardly any would be the same.
SAME_IOU, SAME_SCORE, SAME_SHARE = 0.9, 0.02, 0.95
console = Console()

Boxes = Sequence[Mapping[str, Any]]
Measured = dict[int, dict[str, list[Load]]]


@dataclass(frozen=True)
class Options:
    """What is measured, and how long."""

    seconds: float
    repeats: int
    clients: tuple[int, ...]
    photos: Path | None
    engine: Engine | None
    processes: int


@dataclass(frozen=True)
class Report:
    """What is written.

    Attributes:
        processes: with a model each, of LitServe and of Fovea; FastAPI has one with all cores.
        engine: of Fovea and of LitServe around its runtime, with the engines' images a second.
        same_boxes: share of the boxes that are those of `YOLO.predict`, by system.
        clients: by number and system, medians.
        ratios: Fovea's answers a second over those of the others, by number of clients.
        gateway_added_p50_ms: with one client that asks with and without it in turn.
        client_cores: that the clients themselves took, on average.
        each: of every repeat.
    """

    cpu: str
    amx: bool
    cores: int
    versions: dict[str, str]
    photos: str
    date: str
    seconds: float
    repeats: int
    processes: int
    engine: EngineChoice
    batching: dict[str, float]
    same_boxes: dict[str, float]
    clients: dict[int, dict[str, Load]]
    ratios: dict[int, dict[str, float]]
    gateway_added_p50_ms: float
    client_cores: float
    each: Measured


def main() -> None:
    """Measure, print a table and write the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=8.0, help="Of one measurement.")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument(
        "--photos", type=Path, help="Folder of 640x480 JPEGs; unset: digits on photos."
    )
    parser.add_argument("--engine", choices=ENGINES, help="Unset: the fastest, measured first.")
    parser.add_argument(
        "--processes",
        type=int,
        default=max(1, usable_cores() // CORES_OF_A_WORKER),
        help="With a model each, of LitServe and of Fovea; one for every four cores.",
    )
    parser.add_argument("--output", type=Path, default=Path("artifacts/bench/serving.json"))
    args = parser.parse_args()
    if args.seconds <= 0 or min(args.repeats, args.processes, *args.clients) < 1:
        parser.error("--seconds, --repeats, --clients and --processes must be above 0")
    options = Options(
        args.seconds, args.repeats, tuple(args.clients), args.photos, args.engine, args.processes
    )
    args.output.parent.mkdir(parents=True, exist_ok=True)
    stop_on_sigterm()
    try:
        with tempfile.TemporaryDirectory(prefix="fovea-bench-") as folder:
            report = run(Path(folder), options)
    except (UnexpectedAnswer, AppError) as exc:
        sys.exit(str(exc))
    args.output.write_text(json.dumps(as_json(report), indent=2) + "\n")
    show(report)
    console.print(f"wrote {args.output}")


def run(folder: Path, options: Options) -> Report:
    """Return the measurements."""
    versions = versions_of(LIBRARIES)
    found = options.photos
    files = photos_of(found, N_PHOTOS) if found else make_photos(folder / "made", N_PHOTOS)
    photos = [path.read_bytes() for path in files]
    package = make_package(folder / "package")
    # Measured once for all, for the second time may say otherwise.
    n = options.processes
    runtime = RuntimeOptions(threads=threads_of(n))
    engine = Engines(folder / "engines.json", runtime, options.engine).choose(package)
    forms = [form_of(photo) for photo in photos]
    with ExitStack() as running:
        systems = []
        for name in PLAIN:
            systems.append(running.enter_context(plain_server(name, folder, package, engine, n)))
            console.print(f"started {name}")
        direct, gateway = running.enter_context(fovea(folder, package, engine, n))
        console.print("started the embedded stack")
        systems += [direct, gateway]
        same = same_boxes(systems, photos, forms, YoloDetector(package, threads_of(1)))
        busy = time.process_time()
        started = time.perf_counter()
        measured = measured_of(systems, forms, options)
        client_cores = (time.process_time() - busy) / (time.perf_counter() - started)
        with direct.awake():
            added = [
                added_p50_ms(direct.target, gateway.target, forms, options.seconds)
                for _ in range(options.repeats)
            ]
    machine = this_machine(runtime)
    clients = {n: {name: median(each) for name, each in by.items()} for n, by in measured.items()}
    return Report(
        cpu=machine,
        amx="amx_bf16" in machine,
        cores=usable_cores(),
        versions=versions,
        photos=f"{N_PHOTOS} made up" if found is None else f"{N_PHOTOS} of {found.name}",
        date=f"{datetime.now(UTC):%Y-%m-%d}",
        seconds=options.seconds,
        repeats=options.repeats,
        processes=n,
        engine=engine,
        batching={"max_batch": MAX_BATCH, "litserve_timeout_s": BATCH_TIMEOUT_S},
        same_boxes=same,
        clients=clients,
        ratios={n: ratios(by) for n, by in clients.items()},
        gateway_added_p50_ms=round(statistics.median(added), 2),
        client_cores=round(client_cores, 3),
        each=measured,
    )


def versions_of(libraries: Sequence[str]) -> dict[str, str]:
    """Return the installed version of each."""
    try:
        return {name: version(name) for name in libraries}
    except PackageNotFoundError as exc:
        sys.exit(f"{exc.name} is not installed: `make bench-serving` does that")


def same_boxes(
    systems: Sequence[System], photos: Sequence[bytes], forms: Sequence[bytes], yolo: YoloDetector
) -> dict[str, float]:
    """Return which share of each system's boxes are those of `YOLO.predict`; end if too few are."""
    expected = [yolo.detect([yolo.decode(photo)])[0]["detections"] for photo in photos]
    if (n_boxes := sum(len(boxes) for boxes in expected)) < len(photos):
        sys.exit(f"the model sees {n_boxes} boxes in {len(photos)} photos: too few to compare")
    shares = {}
    for system in systems:
        with system.awake() as target:
            # As many at once as make a batch, so that an answer to another's photo is seen.
            answers = answers_of(target, forms, MAX_BATCH)
        found = [json.loads(answer)["detections"] for answer in answers]
        shares[target.name] = round(share_of_same(expected, found), 4)
        console.print(f"{target.name}: {shares[target.name]:.1%} of {n_boxes} boxes as expected")
        if shares[target.name] < SAME_SHARE:
            sys.exit(f"{target.name} does not see what YOLO.predict sees in the same photos")
    return shares


def share_of_same(expected: Sequence[Boxes], found: Sequence[Boxes]) -> float:
    """Return the share of boxes, of the more numerous side, that have one alike on the other."""
    n_same = n_expected = n_found = 0
    for these, those in zip(expected, found, strict=True):
        left = [box for box in those if box["score"] > DEFAULT_SCORE]
        wanted = [box for box in these if box["score"] > DEFAULT_SCORE]
        n_expected, n_found = n_expected + len(wanted), n_found + len(left)
        for box in wanted:
            alike = next((other for other in left if _are_same(box, other)), None)
            if alike is not None:
                left.remove(alike)
                n_same += 1
    return n_same / max(n_expected, n_found, 1)


def _are_same(box: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    if box["class_id"] != other["class_id"] or abs(box["score"] - other["score"]) > SAME_SCORE:
        return False
    here, there = (np.array(each["xyxy"], np.float32) for each in (box, other))
    return bool(overlaps(here, there[None])[0] >= SAME_IOU)


def measured_of(systems: Sequence[System], forms: Sequence[bytes], options: Options) -> Measured:
    """Return every repeat of every load."""
    names = [system.target.name for system in systems]
    measured: Measured = {n: {name: [] for name in names} for n in options.clients}
    for repeat in range(options.repeats + 1):
        # The first warms up: graphs are compiled for every size of batch.
        seconds = options.seconds if repeat else options.seconds / 4
        for n_clients in options.clients:
            for system in systems:
                with system.awake() as target:
                    load = measure(target, forms, n_clients, seconds)
                if not repeat:
                    continue
                measured[n_clients][target.name].append(load)
                console.print(
                    f"repeat {repeat}: {n_clients} clients: {target.name}: {load.rps:.1f} answers/s"
                )
    return measured


def median(loads: Sequence[Load]) -> Load:
    """Return the medians of several repeats; all refusals."""
    return Load(
        rps=round(statistics.median(load.rps for load in loads), 2),
        p50_ms=round(statistics.median(load.p50_ms for load in loads), 1),
        p99_ms=round(statistics.median(load.p99_ms for load in loads), 1),
        n_busy=sum(load.n_busy for load in loads),
    )


def ratios(loads: Mapping[str, Load]) -> dict[str, float]:
    """Return how many times as many answers Fovea gives as each plain system."""
    return {name: round(loads["fovea"].rps / loads[name].rps, 3) for name in PLAIN}


def as_json(report: Report) -> dict[str, Any]:
    """Return the report in plain types."""
    return asdict(report) | {"engine": report.engine.model_dump()}


def show(report: Report) -> None:
    """Print the report."""
    for n_clients, loads in report.clients.items():
        table = Table("system", "answers/s", "p50 ms", "p99 ms", "fovea over it", "503")
        table.title = f"{n_clients} client{'s' if n_clients > 1 else ''}"
        for name, load in loads.items():
            over = report.ratios[n_clients].get(name)
            table.add_row(
                name,
                f"{load.rps:.1f}",
                f"{load.p50_ms:.0f}",
                f"{load.p99_ms:.0f}",
                "" if over is None else f"{over:.2f}",
                str(load.n_busy or ""),
            )
        console.print(table)
    console.print(f"{report.photos} photos, {report.cpu}; Fovea in {report.engine.engine}")
    console.print(
        f"the gateway adds {report.gateway_added_p50_ms:.1f} ms at p50 with one client; "
        f"the clients take {report.client_cores:.0%} of a core"
    )


if __name__ == "__main__":
    main()
