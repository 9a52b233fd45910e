"""`fovea round`, `annotate`, `jobs`: the loop."""

import time
from collections.abc import Sequence
from typing import Annotated

import typer
from rich.table import Table

from shared.cli.context import connect, console, follow, pick_project, told_errors
from shared.cli.data import Project
from shared.cli.oracle import answer_tasks
from shared.client import GatewayClient
from shared.errors import BadRequest, Conflict
from shared.models.jobs import JobView
from shared.models.rounds import RoundCreate, RoundView, TrainingParams
from shared.models.strategies import (
    FIRST_STRATEGY,
    STRATEGY_NAMES,
    USUAL_STRATEGY,
    describe,
    parse_strategy,
)

round_app = typer.Typer(no_args_is_help=True, help="Start and watch rounds.")
jobs_app = typer.Typer(no_args_is_help=True, help="Look at jobs, follow one, cancel one.")
UNFINISHED = frozenset({"scoring", "selecting", "labelling", "training", "calibrating", "gating"})
STRATEGIES = (
    f"Unset: {FIRST_STRATEGY} before any model, then {USUAL_STRATEGY}. "
    f"{', '.join(STRATEGY_NAMES)} or custom:NAME; with options as in `entropy:sum`, `bald:top3`, "
    "`class_weighted_entropy:both`; or a mix as in `0.8 entropy + 0.2 random`"
)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(round_app, name="round")
    app.add_typer(jobs_app, name="jobs")
    app.command()(annotate)


@round_app.command("start")
def start(
    project: Project = None,
    strategy: Annotated[str | None, typer.Option(help=STRATEGIES)] = None,
    budget: int = 40,
    budget_unit: Annotated[str, typer.Option(help="images or boxes")] = "images",
    epochs: int = 40,
    image_size: int = 320,
    seed: int = 0,
    purpose: Annotated[str, typer.Option(help="train; or val, gate, test")] = "train",
) -> None:
    """Start a round: score the pool, select images, wait for their labels, train, gate."""
    with told_errors():
        client = connect()
        name = pick_project(client, project)
        request = RoundCreate.model_validate(
            {
                "strategy": parse_strategy(strategy) if strategy else None,
                "budget": budget,
                "budget_unit": budget_unit,
                "purpose": purpose,
                "seed": seed,
                "training": TrainingParams(epochs=epochs, image_size=image_size, seed=seed),
            }
        )
        created = client.create_round(name, request)
        console.print(
            f"round {created.index} ({created.id}) started, by "
            f"{describe(created.request.strategy)}; next: annotate its tasks"
        )


@round_app.command("list")
def list_(project: Project = None) -> None:
    """List the rounds of a project."""
    with told_errors():
        client = connect()
        console.print(rounds_table(client.rounds(pick_project(client, project))))


@round_app.command("watch")
def watch(round_id: str, project: Project = None) -> None:
    """Follow a round until it ends."""
    with told_errors():
        client = connect()
        name = pick_project(client, project)
        found = wait_round(client, name, round_id)
        console.print(", ".join(_row(found)))
        if found.state != "done":
            msg = f"round {round_id!r} is {found.state}: {found.error}"
            raise Conflict(msg)


@round_app.command("cancel")
def cancel(round_id: str, project: Project = None) -> None:
    """Cancel a round; answers given so far stay readable."""
    with told_errors():
        client = connect()
        state = client.cancel_round(pick_project(client, project), round_id).state
        console.print(f"round {round_id}: {state}")


def annotate(
    project: Project = None,
    oracle: Annotated[bool, typer.Option(help="Answer from hidden ground truth.")] = False,
    noise: Annotated[float, typer.Option(help="Share of mistakes the oracle makes.")] = 0.0,
    seed: int = 0,
) -> None:
    """Answer the open tasks of the round that waits for labels; people use the dashboard."""
    with told_errors():
        client = connect()
        name = pick_project(client, project)
        if not oracle:
            console.print("open the dashboard's Annotate page, or give --oracle")
            raise typer.Exit(2)
        waiting = [r for r in client.rounds(name) if r.state == "labelling"]
        if not waiting:
            msg = f"no round of project {name!r} waits for labels"
            raise BadRequest(msg)
        n = answer_tasks(client, name, waiting[0].id, noise=noise, seed=seed)
        console.print(f"answered {n} tasks of round {waiting[0].index}")


@jobs_app.command("list")
def list_jobs(project: Project = None, limit: int = 20) -> None:
    """List jobs, the newest first."""
    with told_errors():
        console.print(jobs_table(connect().jobs(project=project, limit=limit)))


@jobs_app.command("follow")
def follow_job(job_id: str) -> None:
    """Show a job's progress until it ends."""
    with told_errors():
        client = connect()
        job = client.job(job_id)
        console.print_json(data=follow(client, job, job.kind).result)


@jobs_app.command("cancel")
def cancel_job(job_id: str) -> None:
    """Ask a job to stop."""
    with told_errors():
        console.print(f"{job_id}: {connect().cancel_job(job_id).state}, asked to stop")


def wait_round(
    client: GatewayClient,
    project: str,
    round_id: str,
    *,
    until: frozenset[str] = frozenset(),
    poll_s: float = 0.5,
) -> RoundView:
    """Return the round once it has ended, or is in one of the states `until`."""
    said = ""
    while True:
        found = client.round(project, round_id)
        if found.state != said:
            said = found.state
            console.print(f"  round {found.index}: {said}", highlight=False)
        if found.state not in UNFINISHED or found.state in until:
            return found
        time.sleep(poll_s)


def rounds_table(rounds: Sequence[RoundView]) -> Table:
    """Return rounds as a table that fits into 80 columns; ids are whole, for the next command."""
    table = Table(show_lines=True)
    table.add_column("round", no_wrap=True)
    for name in ("strategy", "model", "mAP50"):
        table.add_column(name)
    for found in rounds:
        index, state, strategy, tasks, model, promoted, map50, round_id = _row(found)
        told = {"yes": "promoted", "no": "refused", "-": ""}[promoted]
        table.add_row(
            f"{index} {state} {tasks} tasks\n{round_id}", strategy, f"{model}\n{told}", map50
        )
    return table


def jobs_table(jobs: Sequence[JobView]) -> Table:
    """Return jobs as a table that fits into 80 columns; ids are whole, for the next command."""
    table = Table(show_lines=True)
    for name in ("job", "state"):
        table.add_column(name, no_wrap=True)
    table.add_column("project, message", overflow="fold")
    for job in jobs:
        table.add_row(
            f"{job.kind}\n{job.id}",
            f"{job.state} {job.progress:.0%}\n{_effort(job)}",
            f"{job.project}\n{job.error or job.message}",
        )
    return table


def _effort(job: JobView) -> str:
    tries = f"try {job.attempts}/{job.max_attempts}"
    return f"{tries}, {job.seconds:.1f} s" if job.seconds else tries


def _row(found: RoundView) -> tuple[str, ...]:
    map50 = found.metrics.get("map50")
    return (
        str(found.index),
        found.state,
        describe(found.request.strategy),
        f"{found.n_done}/{found.n_tasks}",
        f"v{found.model_version}" if found.model_version else "-",
        {True: "yes", False: "no", None: "-"}[found.promoted],
        f"{map50:.3f}" if map50 is not None else "-",
        found.id,
    )
