"""`fovea strategy advise`: which strategy is best on the labels that a project has?"""

from pathlib import Path
from typing import Annotated

import typer

from shared.cli.context import connect, console, pick_project, told_errors
from shared.cli.data import Project
from shared.cli.simulate import base_of_settings, keep
from shared.client import GatewayClient
from shared.errors import BadRequest
from shared.models.data import DatasetVersionView
from shared.models.rounds import RoundView, TrainingParams
from shared.models.strategies import parse_strategy

DEFAULT_STRATEGIES = "entropy,class_weighted_entropy,class_weighted_diverse"
strategy_app = typer.Typer(no_args_is_help=True, help="Which images are worth labelling?")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.add_typer(strategy_app, name="strategy")


@strategy_app.callback()
def strategy() -> None:
    """Keep `advise` a command of its own, though it is the only one."""


@strategy_app.command("advise")
def advise(
    project: Project = None,
    strategies: Annotated[
        str, typer.Option(help="Comma-separated; random is always there.")
    ] = DEFAULT_STRATEGIES,
    seeds: Annotated[int, typer.Option(help="Paired repetitions.")] = 3,
    iterations: Annotated[int, typer.Option(help="Of each training.")] = 300,
    image_size: Annotated[
        int | None, typer.Option(help="Longer side, pixels [that of the project's rounds].")
    ] = None,
    output: Annotated[Path, typer.Option(help="Cells and curves; the same again goes on.")] = Path(
        "artifacts/advise"
    ),
) -> None:
    """Replay a project's newest labels with several strategies, and say which to use, how sure.

    Runs on a stack of its own beside the project's, which it only reads from; hours on two cores.
    Stopped and started again it goes on where it was.
    """
    from shared.local.stack import stop_on_sigterm
    from shared.simulate.plan import caveats, plan_replay
    from shared.simulate.run import simulate

    with told_errors():
        names = tuple(name.strip() for name in strategies.split(","))
        for name in names:
            parse_strategy(name)
        client = connect()
        version = newest_version(client, pick_project(client, project))
        rounds = client.rounds(version.project)
        folder = output / f"{version.project}-v{version.version}"
        archive = folder / f"{version.project}-v{version.version}.zip"
        size = image_size or trained_size(rounds)
        options = plan_replay(
            version,
            data=archive,
            output=folder,
            strategies=names,
            seeds=seeds,
            training=TrainingParams(
                iterations=iterations, image_size=size, base=base_of_settings()
            ),
        )
        folder.mkdir(parents=True, exist_ok=True)
        if not archive.exists():
            client.export(version.project, version.version, "coco", archive)
        stop_on_sigterm()
        results = simulate(options, resume=True)
        for sentence in caveats(version, rounds):
            console.print(f"  but {sentence}", highlight=False)
        keep(client, version.project, f"advice-v{version.version}", results)


def newest_version(client: GatewayClient, project: str) -> DatasetVersionView:
    """Return a project's newest labels.

    Raises:
        BadRequest: it has none yet.
    """
    number = client.project(project).latest_version
    if number is None:
        msg = f"project {project!r} has no labels yet: there is nothing to replay"
        raise BadRequest(msg)
    return client.dataset_version(project, number)


def trained_size(rounds: list[RoundView]) -> int:
    """Return the image size of the newest training round, else the usual one."""
    sizes = [r.request.training.image_size for r in rounds if r.request.purpose == "train"]
    return sizes[-1] if sizes else TrainingParams().image_size
