"""`fovea train calibrate models promote rollback predict drift reindex`."""

import io
import zipfile
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from shared.cli.context import connect, console, follow, pick_project, told_errors, write_bytes
from shared.cli.data import Project
from shared.cli.packing import printable
from shared.client import GatewayClient
from shared.errors import AppError, BadRequest
from shared.models.registry import (
    AliasView,
    CalibrationCreate,
    CalibrationResult,
    DriftCreate,
    DriftResult,
    EngineChoice,
    Prediction,
    PromotionCreate,
    ScoringCreate,
    TrainingCreate,
    TrainingResult,
)
from shared.models.rounds import TrainingParams


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("import-model")(import_model)
    for command in (train, calibrate, models, promote, rollback, predict, drift, reindex):
        app.command()(command)


def train(
    project: Project = None,
    version: Annotated[int | None, typer.Option(help="Dataset version; unset: newest.")] = None,
    epochs: int = 40,
    image_size: int = 320,
    seed: int = 0,
) -> None:
    """Train on a dataset version, show its progress and print the result."""
    with told_errors():
        client = connect()
        name = pick_project(client, project)
        number = client.project(name).latest_version if version is None else version
        if number is None:
            msg = f"project {name!r} has no dataset version yet: ingest or annotate labels first"
            raise BadRequest(msg)
        params = TrainingParams(epochs=epochs, image_size=image_size, seed=seed)
        job = client.train(name, TrainingCreate(dataset_version=number, params=params))
        result = TrainingResult.model_validate(follow(client, job, "train").result)
        console.print(f"model v{result.model_version} of dataset version {number}:")
        for split, metrics in result.metrics.items():
            console.print(f"  {split}: mAP50 {metrics.map50:.3f}, mAP50-95 {metrics.map50_95:.3f}")


def calibrate(
    project: Project = None,
    model: Annotated[int | None, typer.Option(help="Model version; unset: the newest.")] = None,
) -> None:
    """Score the held-out images, fit thresholds on val, print what changes on test."""
    with told_errors():
        client = connect()
        name = pick_project(client, project)
        number = newest_model(client, name) if model is None else model
        result = calibrate_model(client, name, number)
        component = result.manifest.components[0]
        classes = client.project(name).classes
        table = Table("class", "threshold", "note")
        for label, threshold, alone in zip(
            classes, component.score_thresholds, component.fallback, strict=True
        ):
            table.add_row(label, f"{threshold:.3f}", "global: too few boxes" if alone else "")
        console.print(table)
        console.print(
            f"test F1 {result.before.f1:.3f} -> {result.after.f1:.3f} "
            f"(NMS IoU {component.nms_iou:.2f}; {'kept' if result.kept else 'defaults kept'})"
        )


def calibrate_model(client: GatewayClient, project: str, version: int) -> CalibrationResult:
    """Score val, gate and test with a model version, then calibrate it."""
    scoring = ScoringCreate(model_version=version, splits=("val", "gate", "test"))
    follow(client, client.score(project, scoring), "score")
    job = client.calibrate(project, CalibrationCreate(model_version=version))
    return CalibrationResult.model_validate(follow(client, job, "calibrate").result)


def newest_model(client: GatewayClient, project: str) -> int:
    """Return the newest model version.

    Raises:
        BadRequest: there is none.
    """
    found = client.models(project)
    if not found:
        msg = f"project {project!r} has no model yet: run a round, or `fovea train`"
        raise BadRequest(msg)
    return found[-1].version


def models(project: Project = None) -> None:
    """List the model versions of a project."""
    with told_errors():
        client = connect()
        table = Table("version", "aliases", "dataset", "test mAP50", "engine", "made")
        for model in client.models(pick_project(client, project)):
            map50 = model.metrics.get("test/map50")
            table.add_row(
                f"v{model.version}",
                ", ".join(model.aliases),
                f"{model.dataset_version or '-'}",
                f"{map50:.3f}" if map50 is not None else "-",
                "\n".join(map(_engine, model.engines)) or "-",
                f"{model.created_at:%Y-%m-%d %H:%M}",
            )
        console.print(table)


def _engine(choice: EngineChoice) -> str:
    """Return the engine and how fast each was, the fastest first."""
    if not choice.images_per_s:
        return choice.engine
    told = sorted(choice.images_per_s.items(), key=lambda each: -each[1])
    return "images/s: " + ", ".join(f"{engine} {speed:.0f}" for engine, speed in told)


def import_model(folder: Path, project: Project = None) -> None:
    """Register a detector of your own: a folder of model.onnx and model.json."""
    with told_errors():
        client = connect()
        name = pick_project(client, project)
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            for file in ("model.json", "model.onnx"):
                if not (folder / file).is_file():
                    msg = f"no such file: {folder / file}"
                    raise BadRequest(msg)
                archive.write(folder / file, file)
        made = client.import_model(name, packed.getvalue())
        console.print(f"model v{made.version}: candidate")


def promote(version: int, project: Project = None) -> None:
    """Serve this model version from now on."""
    with told_errors():
        client = connect()
        name = pick_project(client, project)
        _print_aliases(client.promote(name, PromotionCreate(model_version=version)))


def rollback(project: Project = None) -> None:
    """Serve the previous production model again."""
    with told_errors():
        client = connect()
        _print_aliases(client.rollback(pick_project(client, project)))


def predict(
    images: list[Path],
    project: Project = None,
    batch: Annotated[str | None, typer.Option(help="Label to find these again in drift.")] = None,
) -> None:
    """Show what the served model sees in image files; one that is refused stops no other."""
    with told_errors():
        client = connect()
        name = pick_project(client, project)
        classes = client.project(name).classes
        n_refused = 0
        for path in images:
            try:
                seen = _predicted(client, name, path, batch)
            except AppError as exc:
                if exc.status >= 500:
                    raise
                console.print(printable(f"{path.name}: {exc}"), highlight=False)
                n_refused += 1
                continue
            took = f"model v{seen.model_version}, {seen.seconds * 1e3:.0f} ms"
            console.print(f"{path.name} ({took})")
            for box in seen.detections:
                corners = ", ".join(f"{v:.3f}" for v in box.xyxy)
                console.print(f"  {classes[box.class_id]} {box.score:.2f} at {corners}")
        if n_refused:
            msg = f"{n_refused} of {len(images)} images were refused"
            raise BadRequest(msg)


def _predicted(client: GatewayClient, project: str, path: Path, batch: str | None) -> Prediction:
    if not path.is_file():
        msg = f"no such file: {path}"
        raise BadRequest(msg)
    return client.predict(project, path.read_bytes(), name=path.name, batch=batch)


def drift(
    project: Project = None,
    batch: Annotated[str | None, typer.Option(help="Only predictions with this label.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write the report's page here.")] = None,
) -> None:
    """Compare served predictions with the held-out images and say what drifted."""
    with told_errors():
        client = connect()
        name = pick_project(client, project)
        job = client.drift_report(name, DriftCreate(batch=batch))
        result = DriftResult.model_validate(follow(client, job, "drift").result)
        if html is not None:
            write_bytes(html, client.drift_html(name, result.report_id))
            console.print(f"wrote {html}")
        drifted = ", ".join(result.drifted_columns) or "nothing"
        console.print(f"drifted: {drifted} ({result.n_current} predictions)")


def reindex(project: Project = None) -> None:
    """Rebuild the vector index from the prediction shards."""
    with told_errors():
        client = connect()
        name = pick_project(client, project)
        follow(client, client.reindex(name), "reindex")
        console.print("reindexed")


def _print_aliases(aliases: AliasView) -> None:
    previous = f"v{aliases.previous}" if aliases.previous else "none"
    console.print(f"production: v{aliases.production}, previous: {previous}")
