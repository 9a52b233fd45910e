"""How rounds and jobs are listed."""

import pytest
from rich.console import Console
from rich.table import Table

from dashboard.tests.world import job, round_view
from shared.cli.loop import jobs_table, rounds_table
from shared.models.strategies import parse_strategy

ID = "0123456789abcdef0123456789abcdef"


def lines(table: Table) -> list[str]:
    """Return the table's lines as a terminal of 80 columns shows them, without the frame."""
    console = Console(width=80)
    with console.capture() as capture:
        console.print(table)
    return [" ".join(line.replace("│", " ").split()) for line in capture.get().splitlines()]


def test_jobs_can_be_read_and_followed_at_80_columns() -> None:
    running = job("inference.score", 0.62, "31 of 50 images").model_copy(
        update={"id": ID, "seconds": 12345.6}
    )
    queued = job("evidently.report", 0.0, "").model_copy(update={"id": ID[::-1]})
    shown = lines(jobs_table([running, queued]))
    assert (
        f"inference.score running 62% scenes {ID} try 1/3, 12345.6 s 31 of 50 images"
        in " ".join(shown)
    )
    assert f"{ID[::-1]} try 1/3" in shown


@pytest.mark.parametrize("strategy", ["bald", "0.8 class_weighted_entropy:both + 0.2 random"])
def test_rounds_can_be_read_and_watched_at_80_columns(strategy: str) -> None:
    done = round_view(2, "done", id=ID)
    request = done.request.model_copy(update={"strategy": parse_strategy(strategy)})
    refused = round_view(3, "done", id=ID[::-1], promoted=False, request=request)
    waiting = round_view(4, "calibrating", id=ID, n_done=4)
    shown = lines(rounds_table([done, refused, waiting]))
    assert "2 done 10/10 tasks bald v2 0.660" in shown
    assert f"{ID} promoted" in shown
    assert any(line.startswith(ID[::-1]) and line.endswith("refused") for line in shown)
    assert "4 calibrating 4/10 tasks bald - -" in shown
