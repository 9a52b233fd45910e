"""Rounds of the tiny profile, for the tests of the whole stack."""

import time
from collections.abc import Callable
from pathlib import Path

from shared.cli.data import ingest_path
from shared.cli.oracle import answer_tasks
from shared.client import GatewayClient
from shared.models.data import IngestionCreate, IngestionReport, ProjectCreate
from shared.models.rounds import RoundCreate, RoundView, TrainingParams
from shared.models.strategies import parse_strategy

TIMEOUT_S = 240.0
TINY_TRAINING = TrainingParams(epochs=3, image_size=96, batch=4)


def make_project(client: GatewayClient, name: str, data: Path) -> IngestionReport:
    client.create_project(ProjectCreate(name=name))
    return ingest_path(client, name, data, IngestionCreate(as_oracle=True))


def start_round(client: GatewayClient, project: str, strategy: str, budget: int = 8) -> RoundView:
    request = RoundCreate(
        strategy=parse_strategy(strategy), budget=budget, training=TINY_TRAINING, seed=1
    )
    return client.create_round(project, request)


def finish_round(
    client: GatewayClient,
    found: RoundView,
    on_poll: Callable[[RoundView], None] | None = None,
) -> RoundView:
    """Answer the round's tasks when it waits for them, and return it once it has ended."""
    deadline = time.monotonic() + TIMEOUT_S
    while found.finished_at is None:
        assert time.monotonic() < deadline, found
        if on_poll is not None:
            on_poll(found)
        if found.state == "labelling" and found.n_done < found.n_tasks:
            answer_tasks(client, found.project, found.id)
        time.sleep(0.05)
        found = client.round(found.project, found.id)
    return found


def wait_labelling(client: GatewayClient, found: RoundView) -> RoundView:
    """Return the round once it waits for labels."""
    deadline = time.monotonic() + TIMEOUT_S
    while found.state in {"scoring", "selecting"}:
        assert time.monotonic() < deadline, found
        time.sleep(0.05)
        found = client.round(found.project, found.id)
    assert found.state == "labelling", found
    return found
