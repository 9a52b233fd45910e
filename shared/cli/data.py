"""`fovea project`, `ingest`, `export`: what data_service owns."""

import tempfile
from collections import Counter
from pathlib import Path
from typing import Annotated, Literal, cast

import typer
from rich.table import Table

from shared.cli.context import (
    connect,
    console,
    follow,
    pick_project,
    settings_or_refuse,
    told_errors,
)
from shared.cli.packing import Folder, is_utf8, pack, printable, read_folder
from shared.client import GatewayClient
from shared.errors import BadRequest, TooLarge
from shared.models.data import (
    Format,
    IngestionCreate,
    IngestionReport,
    ProjectCopy,
    ProjectCreate,
    Split,
    SplitFractions,
    Upload,
)

Project = Annotated[str | None, typer.Option("--project", "-p", help="Unset: the only one.")]
project_app = typer.Typer(no_args_is_help=True, help="Create and look at projects.")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(project_app, name="project")
    app.command()(ingest)
    app.command()(export)


@project_app.command("create")
def create(
    name: str,
    classes: Annotated[str, typer.Option(help="Class names in order, by commas.")] = "",
    held_out: Annotated[float, typer.Option(help="Share of val, of gate and of test.")] = 0.1,
    seed: int = 0,
) -> None:
    """Create a project; without classes they are taken from the first labels ingested."""
    with told_errors():
        names = tuple(part.strip() for part in classes.split(",") if part.strip())
        splits = SplitFractions(val=held_out, gate=held_out, test=held_out)
        request = ProjectCreate(name=name, classes=names, splits=splits, seed=seed)
        console.print(f"created {connect().create_project(request).name}")


@project_app.command("copy")
def copy(
    source: str,
    name: str,
    version: Annotated[
        int | None, typer.Option(help="Whose labels it starts with. Unset: the oldest.")
    ] = None,
    hide_labels: Annotated[
        bool, typer.Option(help="Keep train labels hidden, for a simulated annotator.")
    ] = False,
) -> None:
    """Copy a project's images and splits, to start again from the labels of one version."""
    with told_errors():
        request = ProjectCopy(name=name, dataset_version=version, hide_labels=hide_labels)
        made = connect().copy_project(source, request)
        console.print(
            f"created {made.name}: {made.n_images} images, {made.n_labelled} labelled to train on"
        )


@project_app.command("list")
def list_() -> None:
    """List the projects and how much is in them."""
    with told_errors():
        table = Table("project", "images", "labelled", "version", "classes")
        for project in connect().projects():
            table.add_row(
                project.name,
                str(project.n_images),
                str(project.n_labelled),
                f"{project.latest_version or '-'}",
                ", ".join(project.classes),
            )
        console.print(table)


def ingest(
    source: Annotated[
        str, typer.Argument(help="Folder, zip, tar, image, .txt of addresses, or s3://bucket/…")
    ],
    project: Project = None,
    as_oracle: Annotated[
        bool, typer.Option(help="Keep train labels hidden, for a simulated annotator.")
    ] = False,
    kind: Annotated[str, typer.Option("--format", help="auto, yolo, coco, voc, images")] = "auto",
    split: Annotated[str | None, typer.Option(help="Put every image into this split.")] = None,
) -> None:
    """Take in images (with YOLO, COCO or VOC labels, or alone) and print what was taken."""
    with told_errors():
        client = connect()
        name = pick_project(client, project)
        options = IngestionCreate(
            format=cast("Format | Literal['auto']", kind),
            as_oracle=as_oracle,
            split=cast("Split | None", split),
        )
        if source.startswith("s3://"):
            report = _ingest(client, name, options.model_copy(update={"s3": source}))
        else:
            report = ingest_path(client, name, Path(source), options)
        print_report(report)
        if report.rejected and not report.n_added + report.n_known:
            msg = f"nothing of {printable(source)} was taken: all {len(report.rejected)} refused"
            raise BadRequest(msg)


def ingest_path(
    client: GatewayClient, project: str, path: Path, options: IngestionCreate
) -> IngestionReport:
    """Upload a folder (zipped on the way) or a file, ingest it, return the report.

    A file named `.txt` is a list of addresses, one a line, which the server downloads.

    Links in a folder and files that cannot be read are left out; the report names them too.

    Raises:
        BadRequest: there is nothing at `path`, or nothing to send, or the name is not UTF-8.
        TooLarge: it is over the limit for one upload.
    """
    if not path.exists():
        msg = f"no such file or folder: {printable(str(path))}"
        raise BadRequest(msg)
    folder = read_folder(path) if path.is_dir() else None
    upload = (
        _upload_file(client, project, path)
        if folder is None
        else _upload_folder(client, project, folder)
    )
    field = "urls_upload_id" if path.suffix.lower() == ".txt" and path.is_file() else "upload_id"
    report = _ingest(client, project, options.model_copy(update={field: upload.upload_id}))
    left_out = () if folder is None else tuple(folder.rejected)
    return report.model_copy(update={"rejected": (*left_out, *report.rejected)})


def _ingest(client: GatewayClient, project: str, request: IngestionCreate) -> IngestionReport:
    job = follow(client, client.ingest(project, request), "ingest")
    return IngestionReport.model_validate(job.result)


def print_report(report: IngestionReport) -> None:
    """Print an ingestion report: counts, what was refused and why, near-duplicates."""
    splits = ", ".join(f"{name} {n}" for name, n in report.n_by_split.items())
    console.print(
        f"{report.format}: {report.n_added} images added, {report.n_known} known, "
        f"{report.n_boxes} boxes; {splits}",
        highlight=False,
    )
    for rejection in report.rejected[:20]:
        line = f"not taken: {rejection.name}: {rejection.reason}: {rejection.detail}"
        console.print(f"  {printable(line)}", highlight=False)
    if len(report.rejected) > 20:
        reasons = Counter(rejection.reason for rejection in report.rejected)
        console.print(f"  … {len(report.rejected)} in all: {dict(reasons)}", highlight=False)
    for pair in (p for p in report.near_duplicates if p.crosses):
        console.print(
            f"  near-duplicates cross splits: {printable(pair.first)} ({pair.splits[0]}) and "
            f"{printable(pair.second)} ({pair.splits[1]})",
            highlight=False,
        )


def export(
    target: Path,
    project: Project = None,
    version: Annotated[int | None, typer.Option(help="Unset: the newest.")] = None,
    kind: Annotated[str, typer.Option("--format", help="yolo, coco or voc")] = "yolo",
) -> None:
    """Write a dataset version as a zip."""
    with told_errors():
        client = connect()
        name = pick_project(client, project)
        number = client.project(name).latest_version if version is None else version
        if number is None:
            msg = f"project {name!r} has no dataset version yet"
            raise BadRequest(msg)
        client.export(name, number, cast("Format", kind), target)
        console.print(f"wrote {target} ({target.stat().st_size} bytes, version {number})")


def _upload_folder(client: GatewayClient, project: str, folder: Folder) -> Upload:
    _check_size(folder.root, sum(folder.sizes.values()))
    with tempfile.TemporaryDirectory(prefix="fovea-upload-") as temporary:
        archive = Path(temporary) / "upload.zip"
        if not pack(folder, archive):
            raise BadRequest(_nothing_under(folder))
        with archive.open("rb") as file:
            return client.upload(project, file)


def _nothing_under(folder: Folder) -> str:
    root = printable(str(folder.root))
    if not folder.rejected:
        return f"nothing under {root}"
    first = folder.rejected[0]
    return (
        f"nothing under {root} can be sent: all {len(folder.rejected)} refused, "
        f"the first is {first.name}: {first.detail}"
    )


def _upload_file(client: GatewayClient, project: str, path: Path) -> Upload:
    if not is_utf8(path.name):
        msg = f"the name is not UTF-8: {printable(path.name)!r}"
        raise BadRequest(msg)
    _check_size(path, path.stat().st_size)
    with path.open("rb") as file:
        return client.upload(project, file, name=path.name)


def _check_size(path: Path, n_bytes: int) -> None:
    n_mb = n_bytes / 2**20
    limit_mb = settings_or_refuse().max_upload_mb
    if n_mb > limit_mb:
        msg = (
            f"{printable(str(path))} has {n_mb:.0f} MiB, over the limit of {limit_mb} MiB for one "
            "upload: raise FOVEA_MAX_UPLOAD_MB for the stack and this command, or ingest it folder "
            "by folder"
        )
        raise TooLarge(msg)
