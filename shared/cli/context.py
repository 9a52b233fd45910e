"""What every command needs: where the gateway is, which project, how errors and progress look."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from shared.cli.packing import printable
from shared.client import GatewayClient
from shared.errors import AppError, BadRequest
from shared.models.jobs import JobView
from shared.settings import Settings, load_settings

# Names and messages of others are printed as they are: no `[b]` or `:cat:` in them means anything.
console = Console(markup=False, emoji=False)
errors = Console(stderr=True, markup=False, emoji=False)


@contextmanager
def told_errors() -> Iterator[None]:
    """Print our own errors as one line and exit with 1; a bug keeps its traceback."""
    try:
        yield
    except KeyboardInterrupt as exc:
        raise typer.Exit(130) from exc
    except (AppError, OSError) as exc:
        said = "\n".join(printable(line) for line in str(exc).split("\n"))
        errors.print(Text("error:", "red"), said, highlight=False, soft_wrap=True)
        raise typer.Exit(1) from exc
    except ValidationError as exc:
        for problem in exc.errors():
            place = ".".join(str(part) for part in problem["loc"])
            errors.print(Text("error:", "red"), f"{place}: {problem['msg']}")
        raise typer.Exit(1) from exc


def settings_or_refuse() -> Settings:
    """Return the settings of the environment.

    Raises:
        BadRequest: one is unknown, or has a value that does not fit.
    """
    try:
        return load_settings()
    except ValueError as exc:
        raise BadRequest(str(exc)) from exc


def connect(settings: Settings | None = None) -> GatewayClient:
    """Return a client of the gateway: of FOVEA_API_KEY's, or of the embedded stack on this machine.

    Raises:
        BadRequest: neither is there, or what is there cannot be an address or a key.
    """
    settings = settings or settings_or_refuse()
    if settings.api_key is not None:
        return GatewayClient(settings.gateway_url, settings.api_key)
    state = settings.state_dir
    try:
        urls = json.loads((state / "stack.json").read_text())["urls"]
        private = json.loads((state / "secrets.json").read_text())
        url, key = str(urls["gateway"]), str(private["api_key"])
    except (FileNotFoundError, KeyError, TypeError, ValueError) as exc:
        msg = (
            f"no stack found: neither FOVEA_API_KEY is set nor is there one in {state}/ "
            "(start one by `make local`)"
        )
        raise BadRequest(msg) from exc
    return GatewayClient(url, key)


def pick_project(client: GatewayClient, name: str | None) -> str:
    """Return the named project, or the only one there is.

    Raises:
        BadRequest: none was named, and there is not exactly one.
    """
    if name:
        return client.project(name).name
    found = [project.name for project in client.projects()]
    if len(found) != 1:
        msg = f"say which project by --project: {', '.join(found) or 'there is none yet'}"
        raise BadRequest(msg)
    return found[0]


def follow(client: GatewayClient, job: JobView, label: str) -> JobView:
    """Show a job's progress until it ends, and return it."""
    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[message]}", markup=False),
        console=console,
        disable=not sys.stdout.isatty(),
    ) as progress:
        bar = progress.add_task(label, total=1.0, message="")
        return client.wait_job(job.id, on_change=_mover(progress, bar, label))


def _mover(progress: Progress, bar: TaskID, label: str) -> Callable[[JobView], None]:
    said: list[str] = []

    def move(job: JobView) -> None:
        message = printable(job.message)
        progress.update(bar, completed=job.progress, message=message)
        tenth = f"{label}: {job.state} {int(job.progress * 10) * 10}%"
        waits = job.state == "queued" and message.startswith("waiting:")
        new = f"{tenth} {message}" if waits else tenth
        if progress.disable and new not in said:
            said.append(new)
            console.print(f"{tenth} {message}", highlight=False)

    return move


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file and its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
