"""`fovea batch`: predict many images, one to a line of a file."""

import shlex
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from shared.cli.context import connect, console, errors, follow, pick_project, told_errors
from shared.cli.data import Project
from shared.client import GatewayClient
from shared.client.jobs import JobFailed
from shared.errors import BackendUnavailable, BadRequest, Conflict
from shared.models.batches import BatchError, BatchView

batch_app = typer.Typer(no_args_is_help=True, help="Predict many images, one to a line of a file.")
Folder = Annotated[Path, typer.Option(help="Where results and errors are written.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(batch_app, name="batch")


@batch_app.command("create")
def create(
    lines: Annotated[Path, typer.Argument(help="JSON lines, each with image_id, url or key.")],
    project: Project = None,
    model: Annotated[int | None, typer.Option(help="Model version; unset: production.")] = None,
    hours: Annotated[float, typer.Option(help="Time it may take.")] = 24,
    key: Annotated[
        str | None, typer.Option(help="Sent again with the same key, it is the same batch.")
    ] = None,
    wait: Annotated[bool, typer.Option(help="Follow it, and fetch what comes out.")] = True,
) -> None:
    """Submit a file of lines; results and errors are written beside it."""
    with told_errors():
        client = connect()
        name = pick_project(client, project)
        if not lines.is_file():
            msg = f"no such file: {lines}"
            raise BadRequest(msg)
        made = client.create_batch(
            name, lines, model_version=model, expires_in_h=hours, idempotency_key=key
        )
        _say(f"batch {made.id}: {made.counts.total:,} lines, model v{made.model_version}")
        if wait:
            _follow(client, made, lines.parent)
        else:
            _say(f"follow it: {_to_follow(made, lines.parent)}")


@batch_app.command("list")
def list_(project: Project = None, limit: int = 20) -> None:
    """List batches, the newest first."""
    with told_errors():
        table = Table("batch", "made (UTC)", "lines", show_lines=True)
        table.columns[0].no_wrap = True
        for found in connect().batches(project, limit):
            counts = found.counts
            table.add_row(
                f"{found.id}\n{found.name} ({found.project})",
                f"{found.created_at:%m-%d %H:%M}",
                f"{found.state}: {counts.answered:,} of {counts.total:,} answered, "
                f"{counts.failed:,} failed",
            )
        console.print(table)


@batch_app.command("status")
def status(batch_id: str) -> None:
    """Show how far a batch is."""
    with told_errors():
        found = connect().batch(batch_id)
        times = {
            "made": found.created_at,
            "ended": found.finished_at,
            "expires": None if found.finished_at else found.expires_at,
            "kept until": found.kept_until,
        }
        facts = [
            f"batch {found.id}: {found.state}",
            f"project {found.project}, model v{found.model_version}, {found.name}".rstrip(", "),
            _counted(found),
            found.error or ("" if found.finished_at else found.message),
            ", ".join(f"{name} {_time(when)}" for name, when in times.items() if when),
        ]
        for fact in filter(None, facts):
            _say(fact)


@batch_app.command("follow")
def follow_batch(batch_id: str, folder: Folder = Path()) -> None:
    """Show a batch's progress until it ends, and fetch what came out."""
    with told_errors():
        client = connect()
        _follow(client, client.batch(batch_id), folder)


@batch_app.command("results")
def results(batch_id: str, folder: Folder = Path()) -> None:
    """Fetch results and errors; of a batch that goes on, what there is so far."""
    with told_errors():
        client = connect()
        _fetch(client, client.batch(batch_id), folder)


@batch_app.command("cancel")
def cancel(batch_id: str) -> None:
    """Stop a batch; what is answered stays."""
    with told_errors():
        state = connect().cancel_batch(batch_id).state
        _say(f"batch {batch_id}: {state}; to go on: fovea batch resume {batch_id}")


@batch_app.command("resume")
def resume(batch_id: str) -> None:
    """Go on with a batch that failed or was cancelled, where it stopped."""
    with told_errors():
        state = connect().resume_batch(batch_id).state
        _say(f"batch {batch_id}: {state}; follow it: fovea batch follow {batch_id}")


@batch_app.command("delete")
def delete(batch_id: str) -> None:
    """Delete a batch that is over, with its results."""
    with told_errors():
        connect().delete_batch(batch_id)
        _say(f"batch {batch_id}: deleted")


def _follow(client: GatewayClient, batch: BatchView, folder: Path) -> None:
    """Wait for a batch and fetch its files; say how to go on when this is cut short."""
    try:
        follow(client, client.job(batch.job_id), "batch")
        _fetch(client, client.batch(batch.id), folder)
    except (KeyboardInterrupt, BackendUnavailable, TimeoutError):
        again = _to_follow(batch, folder)
        errors.print(
            f"no longer followed, but not stopped either; follow it again: {again}",
            highlight=False,
            soft_wrap=True,
        )
        raise
    except JobFailed as exc:
        ended = client.batch(batch.id)
        msg = (
            f"batch {ended.id} {ended.state}{f': {ended.error}' if ended.error else ''} "
            f"({_counted(ended)}); fovea batch resume {ended.id} goes on with it, "
            f"fovea batch results {ended.id} fetches what is answered"
        )
        raise Conflict(msg) from exc


def _fetch(client: GatewayClient, batch: BatchView, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    name = _stem(batch)
    answers, failures = (folder / f"{name}.{file}.jsonl" for file in ("results", "errors"))
    client.batch_output(batch.id, "results", answers)
    client.batch_output(batch.id, "errors", failures)
    _say(f"{batch.state}: {_counted(batch)}")
    with failures.open("rb") as file:
        reasons = Counter(BatchError.model_validate_json(line).error for line in file)
    if reasons:
        said = ", ".join(f"{n:,} {reason}" for reason, n in reasons.most_common())
        _say(f"failed: {said}")
    for target in (answers, failures):
        _say(f"wrote {target}")


def _say(text: str) -> None:
    # Whole lines: commands and file names are copied from them.
    console.print(text, highlight=False, soft_wrap=True)


def _stem(batch: BatchView) -> str:
    """Return the caller's name for a batch, if a file can be called so, and else its id."""
    stem = Path(batch.name).stem
    fits = stem.isprintable() and len(stem.encode(errors="replace")) <= 200
    return stem if stem and fits else batch.id


def _to_follow(batch: BatchView, folder: Path) -> str:
    there = "" if folder == Path() else f" --folder {shlex.quote(str(folder))}"
    return f"fovea batch follow {batch.id}{there}"


def _counted(batch: BatchView) -> str:
    counts = batch.counts
    return f"{counts.answered:,} of {counts.total:,} lines answered, {counts.failed:,} failed"


def _time(when: datetime) -> str:
    return f"{when:%Y-%m-%d %H:%M} UTC"
