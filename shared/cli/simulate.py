"""`fovea simulate`: how much does selection save on this data?"""

import re
from pathlib import Path
from typing import Annotated

import typer

from shared.bases import DEFAULT_BASE
from shared.cli.context import connect, console, told_errors
from shared.client import GatewayClient
from shared.errors import BadRequest
from shared.models.rounds import TrainingParams
from shared.models.simulations import SimulationResults
from shared.settings import load_settings

STRATEGIES = "random,entropy,class_weighted_entropy"
QUICK_STRATEGIES = "random,class_weighted_entropy"
# int() reads no more than some thousand digits, and isdigit() takes "²" for one.
_PART = re.compile(r"[0-9]{1,9}/[0-9]{1,9}")
# Random goes one round further, so that a saving can be read off its curve.
QUICK = {
    "seeds": 3,
    "start": 10,
    "budget": 10,
    "rounds": 1,
    "baseline_rounds": 2,
    "repeats": 0,
    "iterations": 150,
    "warm_iterations": 50,
    "image_size": 224,
}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(simulate)


def simulate(
    data: Annotated[Path, typer.Option(help="Labelled folder or zip: YOLO, COCO or VOC.")],
    strategies: Annotated[
        str | None,
        typer.Option(
            help=f"Comma-separated; random is always there [{STRATEGIES}; "
            f"--quick: {QUICK_STRATEGIES}]"
        ),
    ] = None,
    seeds: Annotated[int | None, typer.Option(help="Paired repetitions [5].")] = None,
    rounds: Annotated[int | None, typer.Option(help="After the common start [3].")] = None,
    baseline_rounds: Annotated[
        int | None, typer.Option(help="Of random, so that its curve goes on [as --rounds].")
    ] = None,
    start: Annotated[int | None, typer.Option(help="Images of the random start [20].")] = None,
    budget: Annotated[int | None, typer.Option(help="A round [20].")] = None,
    budget_unit: Annotated[str, typer.Option(help="images or boxes")] = "images",
    noise: Annotated[float, typer.Option(help="Share of mistakes the oracle makes.")] = 0.0,
    iterations: Annotated[int | None, typer.Option(help="Of each training [300].")] = None,
    warm_iterations: Annotated[
        int | None,
        typer.Option(help="Of trainings after the first, which go on from the last model [off]."),
    ] = None,
    image_size: Annotated[int | None, typer.Option(help="Longer side, pixels [320].")] = None,
    balanced: Annotated[
        bool, typer.Option(help="Also random with class-balanced batches.")
    ] = False,
    full_pool: Annotated[bool, typer.Option(help="Also one model of the whole pool.")] = False,
    quick: Annotated[bool, typer.Option(help="An answer in minutes: small and few.")] = False,
    resume: Annotated[bool, typer.Option(help="Add the cells that are missing.")] = False,
    part: Annotated[str, typer.Option(help="i/n: the i-th of n machines' seeds.")] = "1/1",
    report_only: Annotated[bool, typer.Option(help="Results of the cells there are.")] = False,
    project: Annotated[
        str | None, typer.Option(help="Also show the results beside this project's curve.")
    ] = None,
    output: Path = Path("artifacts/simulate"),
) -> None:
    """Replay rounds on labelled data with simulated annotators, and compare with random choice."""
    from shared.local.stack import stop_on_sigterm
    from shared.simulate.options import SimulationOptions
    from shared.simulate.run import report
    from shared.simulate.run import simulate as run

    given = {
        "seeds": seeds,
        "rounds": rounds,
        "baseline_rounds": baseline_rounds,
        "start": start,
        "budget": budget,
        "iterations": iterations,
        "warm_iterations": warm_iterations,
        "image_size": image_size,
    }
    usual = QUICK if quick else {"iterations": 300}
    chosen = usual | {name: value for name, value in given.items() if value is not None}
    names = strategies or (QUICK_STRATEGIES if quick else STRATEGIES)
    with told_errors():
        training = TrainingParams.model_validate(
            {"base": base_of_settings()}
            | {name: chosen.pop(name) for name in ("iterations", "image_size") if name in chosen}
        )
        # A project that is not there is said before the hours, not after them.
        shown_in = connect().project(project).name if project else None
        options = SimulationOptions.model_validate(
            {
                **chosen,
                "data": data,
                "strategies": [name.strip() for name in names.split(",")],
                "budget_unit": budget_unit,
                "noise": noise,
                "balanced": balanced,
                "full_pool": full_pool,
                "training": training,
                "output": output,
            }
        )
        stop_on_sigterm()
        if report_only:
            results = report(options)
        else:
            results = run(options, resume=resume, part=read_part(part))
        if shown_in:
            keep(connect(), shown_in, simulation_name(output.resolve().name), results)


def base_of_settings() -> str | None:
    """Return the base model that the settings name; None for the usual one.

    It belongs to what a simulation is asked for: a stack of its own reads no settings of ours.
    """
    base = load_settings().base_model
    return None if base == DEFAULT_BASE else base


def keep(client: GatewayClient, project: str, name: str, results: SimulationResults) -> None:
    """Keep results with a project, and say where they are seen."""
    client.put_simulation(project, name, results)
    console.print(
        f"kept as {name!r} of project {project!r}: the dashboard's Learning curve page shows it",
        highlight=False,
    )


def simulation_name(text: str) -> str:
    """Return the nearest name that a simulation may have."""
    return re.sub(r"[^a-z0-9_-]+", "-", text.lower()).lstrip("_-")[:63] or "simulation"


def read_part(text: str) -> tuple[int, int]:
    """Return i and n of `i/n`.

    Raises:
        BadRequest: it is not of that form, or i is not from 1 to n.
    """
    first, _, second = text.partition("/")
    if _PART.fullmatch(text) and 1 <= int(first) <= int(second):
        return int(first), int(second)
    msg = f"--part must be i/n with i from 1 to n: {text!r}"
    raise BadRequest(msg)
