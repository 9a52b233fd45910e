"""`make demo`: the whole loop on the embedded stack, from images to a watched model.

Rounds are answered by an oracle through the same API as a person. What was measured lands in
`artifacts/demo/report.json`, with the pictures beside it.
"""

import shutil
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from pydantic import ValidationError
from rich.table import Table

from shared.cli.context import console, errors, follow
from shared.cli.data import ingest_path, print_report
from shared.client import GatewayClient
from shared.demo.batches import drift_batches
from shared.demo.digits import make_demo_dataset
from shared.demo.options import DemoOptions, read_options
from shared.demo.pictures import draw_learning_curve, draw_predictions
from shared.demo.report import (
    DatasetPart,
    DemoReport,
    DriftPart,
    PredictionPart,
    ProductionPart,
    RoundPart,
)
from shared.demo.rounds import calibration_of, run_round
from shared.errors import AppError, BadRequest, Conflict
from shared.local.lock import exclusive
from shared.local.stack import EmbeddedStack, stop_on_sigterm
from shared.models.data import IngestionCreate, IngestionReport, ProjectCreate
from shared.models.registry import (
    DriftCreate,
    DriftResult,
    EvaluationCreate,
    EvaluationResult,
    Prediction,
)

PROJECT = "demo"
SERVING_TIMEOUT_S = 60.0
# A drift report compares at least 20 images.
MIN_HELD_OUT = 20


class DemoRunning(Conflict):
    """Another demo writes to this output folder."""


def main() -> int:
    """Run the demo; return the exit status."""
    stop_on_sigterm()
    try:
        options = read_options()
        report = run_demo(options)
    except ValidationError as exc:
        for problem in exc.errors():
            name = str(problem["loc"][0]).upper()
            errors.print(f"error: {name}={problem['input']!r}: {problem['msg']}", highlight=False)
        return 2
    except (AppError, TimeoutError) as exc:
        errors.print(f"error: {exc}", highlight=False, markup=False)
        return 1
    except KeyboardInterrupt:
        errors.print("interrupted; everything is stopped")
        return 130
    _print_summary(report, options)
    return 0


def run_demo(options: DemoOptions) -> DemoReport:
    """Start a stack, run the loop, stop the stack, write and return what was measured.

    Raises:
        BadRequest: `DATA` is not there, or is not enough.
        DemoRunning: another demo writes to the same folder.
        AppError: a step of the loop failed.
    """
    check_data(options)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    lock = options.output.with_name(f"{options.output.name}.lock")
    running_already = DemoRunning(f"a demo runs already in {options.output}; one at a time")
    with exclusive(lock, running_already):
        return _run_demo(options)


def _run_demo(options: DemoOptions) -> DemoReport:
    started = time.monotonic()
    empty_output(options)
    data = options.data or make_digits(options)
    stack = EmbeddedStack(options.output / "state")
    with running(stack), PeakMemory(stack) as memory:
        client = GatewayClient(stack.urls["gateway"], stack.api_key)
        dataset = _ingest(client, data, options)
        rounds = _rounds(client, options)
        production = _production(client)
        seen = _predict(client, options)
        drift = _drift(client, options)
        calibration = calibration_of(client, PROJECT, production.version)
        stack_urls = {**stack.urls, "logs": str(stack.state / "logs")}
        client.close()
    draw_learning_curve(rounds, production, options.output / "learning_curve.png")
    report = DemoReport(
        dataset=dataset,
        rounds=tuple(rounds),
        production=production,
        calibration=calibration,
        prediction=seen,
        drift=drift,
        stack=stack_urls,
        peak_pss_mb=round(memory.peak_mb, 1),
        seconds_total=round(time.monotonic() - started, 1),
    )
    (options.output / "report.json").write_text(report.model_dump_json(indent=2))
    return report


def check_data(options: DemoOptions) -> None:
    """Refuse a folder that is not there, or that the demo is about to empty.

    Raises:
        BadRequest: it is one of these.
    """
    if options.data is None:
        return
    if not options.data.exists():
        msg = f"DATA: no such file or folder: {options.data}"
        raise BadRequest(msg)
    if options.data.resolve().is_relative_to(options.output.resolve()):
        msg = f"DATA={options.data} lies in {options.output}, which every demo empties"
        raise BadRequest(msg)


def empty_output(options: DemoOptions) -> None:
    """Make the output folder anew; a stack that still runs in it is stopped, and this is said."""
    stack = EmbeddedStack(options.output / "state")
    if stack.is_running():
        console.print(f"stopping the stack that runs in {stack.state}", highlight=False)
    stack.stop()
    shutil.rmtree(options.output, ignore_errors=True)
    options.output.mkdir(parents=True)


def make_digits(options: DemoOptions) -> Path:
    """Make the digit scenes and return their folder."""
    return make_demo_dataset(options.output / "data", seed=options.seed).parent


@contextmanager
def running(stack: EmbeddedStack) -> Iterator[None]:
    """Run a stack for as long as the block lasts."""
    try:
        stack.start(say=lambda text: console.print(f"  {text}", highlight=False))
        yield
    finally:
        stack.stop()


class PeakMemory:
    """Watches the proportional set size of the stack and this process, every two seconds."""

    def __init__(self, stack: EmbeddedStack) -> None:
        """Watch `stack`."""
        self.peak_mb = 0.0
        self._stack = stack
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "PeakMemory":
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        own = psutil.Process()
        while not self._done.wait(2.0):
            total = self._stack.pss_mb() + own.memory_full_info().pss / 1e6
            self.peak_mb = max(self.peak_mb, total)


def _rounds(client: GatewayClient, options: DemoOptions) -> list[RoundPart]:
    rounds: list[RoundPart] = []
    for index in range(1, options.rounds + 1):
        if rounds and not client.images(PROJECT, split="train", labelled=False, limit=1).images:
            console.print(f"the pool is empty after {index - 1} rounds", highlight=False)
            break
        rounds.append(run_round(client, PROJECT, index, options))
    return rounds


def _ingest(client: GatewayClient, data: Path, options: DemoOptions) -> DatasetPart:
    console.rule("ingest")
    client.create_project(ProjectCreate(name=PROJECT, seed=options.seed))
    report = ingest_path(client, PROJECT, data, IngestionCreate(as_oracle=True))
    print_report(report)
    (options.output / "ingestion.json").write_text(report.model_dump_json(indent=2))
    return _dataset_part(client, data, report, options)


def _dataset_part(
    client: GatewayClient, data: Path, report: IngestionReport, options: DemoOptions
) -> DatasetPart:
    project = client.project(PROJECT)
    by_split = project.n_by_split
    n_held_out = sum(by_split.get(split, 0) for split in ("val", "gate", "test"))
    if not by_split.get("test") or n_held_out < MIN_HELD_OUT:
        msg = (
            f"{data} leaves {n_held_out} images for val, gate and test ({by_split}); "
            f"the demo needs {MIN_HELD_OUT}, some of them test: give more labelled images"
        )
        raise BadRequest(msg)
    return DatasetPart(
        name="digit-scenes" if options.data is None else data.resolve().name,
        n_images=project.n_images,
        n_pool=by_split.get("train", 0),
        n_val=by_split.get("val", 0),
        n_gate=by_split.get("gate", 0),
        n_test=by_split.get("test", 0),
        classes=project.classes,
        n_rejected=len(report.rejected),
    )


def _production(client: GatewayClient) -> ProductionPart:
    console.rule("production")
    version = client.aliases(PROJECT).production
    if version is None:
        msg = f"no model of project {PROJECT!r} was promoted"
        raise AppError(msg)
    job = client.evaluate(PROJECT, EvaluationCreate(model_version=version))
    result = EvaluationResult.model_validate(follow(client, job, "evaluate").result)
    _wait_serving(client, version)
    return ProductionPart(model=PROJECT, version=version, map50=result.metrics.map50)


def _wait_serving(client: GatewayClient, version: int) -> None:
    deadline = time.monotonic() + SERVING_TIMEOUT_S
    while served_version(client, PROJECT) != version:
        if time.monotonic() > deadline:
            msg = f"model v{version} is not served after {SERVING_TIMEOUT_S:.0f} s"
            raise TimeoutError(msg)
        time.sleep(0.5)


def served_version(client: GatewayClient, project: str) -> int | None:
    """Return the model version that answers predictions, None before the first is loaded."""
    try:
        return client.serving(project).model_version
    except Conflict:
        return None


def _predict(client: GatewayClient, options: DemoOptions) -> PredictionPart:
    images = list(client.images(PROJECT, split="test", limit=12).images)
    pairs: list[tuple[bytes, Prediction]] = []
    for image in images:
        content = client.image_content(PROJECT, image.id)
        pairs.append((content, client.predict(PROJECT, content, name=image.name, batch="demo")))
    classes = client.project(PROJECT).classes
    draw_predictions(pairs, classes, options.output / "predictions.png")
    best = max(range(len(pairs)), key=lambda i: len(pairs[i][1].detections))
    seen = pairs[best][1]
    return PredictionPart(
        image=images[best].name, n_boxes=len(seen.detections), model_version=seen.model_version
    )


def _drift(client: GatewayClient, options: DemoOptions) -> DriftPart:
    console.rule("drift")
    found: dict[str, DriftResult] = {}
    for name, images in drift_batches(client, PROJECT, options).items():
        for index, image in enumerate(images):
            client.predict(PROJECT, image, name=f"{name}-{index}", batch=name)
        job = client.drift_report(PROJECT, DriftCreate(batch=name))
        found[name] = DriftResult.model_validate(follow(client, job, f"drift {name}").result)
    html = options.output / "drift.html"
    html.write_bytes(client.drift_html(PROJECT, found["shifted"].report_id))
    return DriftPart(
        html=str(html),
        shifted_columns=found["shifted"].drifted_columns,
        unshifted_columns=found["unshifted"].drifted_columns,
    )


def _print_summary(report: DemoReport, options: DemoOptions) -> None:
    console.rule("demo")
    table = Table("round", "strategy", "images", "boxes", "mAP50", "mAP50-95", "model", "promoted")
    for part in report.rounds:
        table.add_row(*_row(part))
    console.print(table)
    before, after = report.calibration.before, report.calibration.after
    lines = (
        f"production: v{report.production.version}, mAP50 {report.production.map50:.3f} on test",
        f"calibration: F1 {before.f1:.3f} -> {after.f1:.3f} on test",
        f"drift: shifted batch {list(report.drift.shifted_columns) or 'none'}, "
        f"unshifted batch {list(report.drift.unshifted_columns) or 'none'}",
        f"{report.seconds_total:.0f} s, peak memory {report.peak_pss_mb:.0f} MB",
        f"look at {options.output}/: report.json, learning_curve.png, predictions.png, drift.html",
        f"dashboard on this demo's data: FOVEA_STATE_DIR={options.output}/state make local",
    )
    for line in lines:
        console.print(line, highlight=False, markup=False)


def _row(part: RoundPart) -> tuple[str, ...]:
    return (
        str(part.index),
        part.strategy,
        str(part.n_labelled),
        str(part.n_boxes),
        f"{part.map50:.3f}",
        f"{part.map50_95:.3f}",
        f"v{part.model_version}",
        "yes" if part.promoted else "no",
    )


if __name__ == "__main__":
    sys.exit(main())
