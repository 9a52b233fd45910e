"""A simulation from its options to its results: stack up, missing cells, tables and pictures."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column, Table

from shared.bases import DEFAULT_BASE
from shared.cli.context import console
from shared.client import GatewayClient
from shared.errors import BadRequest, Conflict
from shared.local.lock import exclusive
from shared.local.stack import EmbeddedStack
from shared.models.simulations import SimulationResults
from shared.simulate.options import Cell, SimulationOptions, cells_of
from shared.simulate.pictures import draw_curves
from shared.simulate.records import CellRecord, CellStore
from shared.simulate.replay import Replay, strategy_of
from shared.simulate.state import Stamp, content_hash, discard, prepare, require_own
from shared.simulate.statistics import summarise

# Nobody looks at a replay while it runs.
UNUSED = ("dashboard",)


class SimulationRunning(Conflict):
    """Another simulation writes to this output folder."""


def simulate(
    options: SimulationOptions, *, resume: bool, part: tuple[int, int] = (1, 1)
) -> SimulationResults:
    """Run the cells that are missing and write `results.json`, `results.csv` and the curves.

    Raises:
        BadRequest: no such data; a strategy nobody knows; cells of an earlier run are there and
            `resume` is not set, or they were made otherwise or from other data.
        SimulationRunning: another one runs in the same output folder.
        AppError: a round failed.
    """
    if not options.data.exists():
        msg = f"no such file or folder: {options.data}"
        raise BadRequest(msg)
    wanted = list(cells_of(options, part))
    for cell in wanted:
        strategy_of(cell)
    store = CellStore(options.output / "cells")
    finished = store.finished(options)
    if finished and not resume:
        msg = (
            f"{options.output} has {len(finished)} finished cells: go on with --resume, or choose "
            "another --output"
        )
        raise BadRequest(msg)
    stamp = Stamp(settings=options.settings(), content_hash=content_hash(options.data))
    _require_same_data(finished, stamp, options)
    missing = [c for c in wanted if is_missing(c, finished.get(c.slug))]
    if missing:
        require_own(options.output / "state")
        options.output.mkdir(parents=True, exist_ok=True)
        runs_already = SimulationRunning(f"a simulation runs already in {options.output}")
        with exclusive(options.output / "simulation.lock", runs_already):
            _run(options, store, missing, stamp, n_done=len(wanted) - len(missing))
    return report(options)


def _require_same_data(
    finished: Mapping[str, CellRecord], stamp: Stamp, options: SimulationOptions
) -> None:
    for record in finished.values():
        if record.dataset.content_hash != stamp.content_hash:
            msg = (
                f"the cells in {options.output} come from other data ({record.dataset.name!r}, "
                f"{record.dataset.content_hash[:12]}) than {options.data} "
                f"({stamp.content_hash[:12]}): choose another --output"
            )
            raise BadRequest(msg)


def report(options: SimulationOptions) -> SimulationResults:
    """Write results and curves from the cells that are there, and print the verdicts.

    Raises:
        BadRequest: there are no cells of random.
    """
    records = CellStore(options.output / "cells").read(options)
    try:
        results = summarise(records)
    except ValueError as exc:
        msg = f"{options.output}: {exc}"
        raise BadRequest(msg) from exc
    (options.output / "results.json").write_text(results.model_dump_json(indent=2) + "\n")
    _write_csv(records, options.output / "results.csv")
    draw_curves(results, "images", options.output / "curves_images.png")
    draw_curves(results, "boxes", options.output / "curves_boxes.png")
    _print(results, options.output)
    return results


def is_missing(cell: Cell, record: CellRecord | None) -> bool:
    """Tell whether a cell has to be made, or goes on further than its record."""
    if record is None:
        return True
    # A cell that stopped early has used up its pool.
    used_up = record.points[-1].n_images >= record.dataset.n_pool and not cell.full_pool
    return record.cell.n_rounds < cell.n_rounds and not used_up


def _run(
    options: SimulationOptions,
    store: CellStore,
    missing: Sequence[Cell],
    stamp: Stamp,
    *,
    n_done: int,
) -> None:
    state = options.output / "state"

    # Engines agree to about 1e-5, and which one is fastest may differ from start to start.
    stack = EmbeddedStack(
        state,
        fixed_ports=False,
        settings={"FOVEA_ENGINE": "pytorch", "FOVEA_BASE_MODEL": DEFAULT_BASE},
        without=UNUSED,
    )
    stack.stop()
    prepare(state, stamp)
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        console=console,
    )  # fmt: skip
    try:
        stack.start(say=lambda text: console.print(f"  {text}", highlight=False))
        client = GatewayClient(stack.urls["gateway"], stack.api_key)
        with bar:
            shown = bar.add_task("cells", total=n_done + len(missing), completed=n_done)

            def say(text: str) -> None:
                bar.update(shown, description=text)
                # A log shows no bar before its end.
                if not console.is_interactive:
                    console.print(
                        f"  {bar.tasks[0].completed:g} cells done; {text}", highlight=False
                    )

            replay = Replay(client, options, stamp.content_hash, say)
            for cell in missing:
                store.write(replay.run(cell))
                bar.advance(shown)
        client.close()
    finally:
        stack.stop()
    discard(state)


def _write_csv(records: Sequence[CellRecord], path: Path) -> None:
    columns = ("n_images", "n_boxes", "map50", "map50_95")
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("arm", "seed", "repeat", "round", *columns))
        for record in records:
            cell = record.cell
            for index, point in enumerate(record.points):
                values = (getattr(point, name) for name in columns)
                writer.writerow((cell.arm, cell.seed, cell.repeat, index, *values))


def _print(results: SimulationResults, output: Path) -> None:
    table = Table(
        # Long names differ at their end.
        Column("arm", overflow="fold", min_width=12),
        *("seeds", "images", "boxes", "mAP50", "difference at equal images, boxes"),
    )
    for arm in results.arms:
        last, differences = arm.sizes[-1], (arm.difference_images, arm.difference_boxes)
        table.add_row(
            arm.name,
            str(arm.n_seeds),
            str(last.n_images),
            f"{last.n_boxes:.0f}",
            last.map50.text(),
            ", ".join(d.text("+") if d else "-" for d in differences),
        )
    console.print(table)
    if results.noise_map50 is not None:
        console.print(f"another training seed moves mAP50 by {results.noise_map50:.3f} (1 s.d.)")
    for arm in results.arms:
        console.print(f"{arm.name}: {arm.verdict}", highlight=False, markup=False)
    console.print(f"advice: {results.advice.words}", highlight=False, markup=False)
    console.print(f"look at {output}/: results.json, results.csv, curves_*.png", highlight=False)
