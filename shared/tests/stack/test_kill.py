"""Processes are killed in the middle of a round; it is delayed, nothing is lost or doubled."""

import os
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from shared.client import GatewayClient
from shared.local.programs import DEFAULT_PORTS
from shared.local.stack import EmbeddedStack
from shared.models.rounds import RoundView
from shared.tests.stack.rounds import finish_round, make_project, start_round

pytestmark = [pytest.mark.stack, pytest.mark.timeout(1200)]

EVERY = [name for name in DEFAULT_PORTS if name != "supervisor"]
SHORT = ("select", "close", "score_heldout", "calibrate", "gate")


@dataclass(frozen=True)
class Death:
    """A process that is killed in the first of these steps that is seen running."""

    victim: str
    steps: tuple[str, ...]


# Any short step will do for the queue: each hands the next one its job through it.
THREE = (
    Death("inference-worker", ("score",)),
    Death("valkey", SHORT),
    Death("training-worker", ("train",)),
)


class Killer:
    """Kills each process once, while a step that it is to die in runs."""

    def __init__(self, stack: EmbeddedStack, deaths: Iterable[Death]) -> None:
        self.stack = stack
        self.waiting = list(deaths)

    def __call__(self, found: RoundView) -> None:
        running = {step.step for step in found.steps if step.state == "running"}
        for death in [d for d in self.waiting if running.intersection(d.steps)]:
            pid = self.stack.pid(death.victim)
            if pid:
                os.kill(pid, signal.SIGKILL)
                self.waiting.remove(death)


@pytest.fixture(scope="module")
def undisturbed(client: GatewayClient, digits: Path) -> RoundView:
    """The second round of a project that nobody disturbs."""
    make_project(client, "undisturbed", digits)
    finish_round(client, start_round(client, "undisturbed", "random"))
    return finish_round(client, start_round(client, "undisturbed", "coreset"))


def test_a_round_survives_the_death_of_its_workers_and_of_the_queue(
    stack: EmbeddedStack, client: GatewayClient, digits: Path, undisturbed: RoundView
) -> None:
    make_project(client, "killed", digits)
    finish_round(client, start_round(client, "killed", "random"))
    killer = Killer(stack, THREE)
    found = finish_round(client, start_round(client, "killed", "coreset"), killer)
    assert_every_kill_happened(killer)
    assert attempts(client, found, "train") == 2
    assert_same_outcome(client, found, undisturbed)
    assert len(client.models("killed")) == 2
    stack.wait_ready()


@pytest.mark.kill
@pytest.mark.parametrize("victim", EVERY)
def test_a_round_survives_the_death_of_any_process(
    stack: EmbeddedStack,
    client: GatewayClient,
    digits: Path,
    undisturbed: RoundView,
    victim: str,
) -> None:
    name = f"killed-{victim}"
    make_project(client, name, digits)
    finish_round(client, start_round(client, name, "random"))
    created = start_round(client, name, "coreset")
    steps = (("score",), ("train",), ("calibrate", "gate"))
    killer = Killer(stack, [Death(victim, some) for some in steps])
    found = patient_finish(client, created, killer)
    assert_every_kill_happened(killer)
    if victim == "training-worker":
        assert attempts(client, found, "train") == 2
    # The last one may have been killed a moment ago, and it may be the one that is asked now.
    stack.wait_ready()
    assert_same_outcome(client, found, undisturbed)


@pytest.mark.kill
def test_a_round_survives_the_death_of_the_training_itself(
    stack: EmbeddedStack, client: GatewayClient, digits: Path, undisturbed: RoundView
) -> None:
    make_project(client, "killed-child", digits)
    finish_round(client, start_round(client, "killed-child", "random"))
    killed: list[int] = []

    def kill_training(found: RoundView) -> None:
        trainings = psutil.Process(stack.pid("training-worker")).children()
        if trainings and not killed:
            trainings[0].kill()
            killed.append(trainings[0].pid)

    found = finish_round(client, start_round(client, "killed-child", "coreset"), kill_training)
    assert len(killed) == 1
    assert_same_outcome(client, found, undisturbed)


@pytest.mark.kill
def test_what_a_killed_supervisor_left_behind_is_ended_at_the_next_start(
    stack: EmbeddedStack, client: GatewayClient, undisturbed: RoundView
) -> None:
    pid = stack.supervisor_pid()
    assert pid is not None
    before = psutil.Process(pid).children(recursive=True)
    os.kill(pid, signal.SIGKILL)
    stack.start()
    assert [process for process in before if lives(process)] == []
    assert undisturbed.project in {project.name for project in client.projects()}


def lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def patient_finish(client: GatewayClient, created: RoundView, killer: Killer) -> RoundView:
    """Finish a round while the gateway or a service may be down for moments."""
    from shared.errors import BackendUnavailable

    for _ in range(20):
        try:
            return finish_round(client, client.round(created.project, created.id), killer)
        except BackendUnavailable:
            time.sleep(1.0)
    raise AssertionError(created)


def assert_every_kill_happened(killer: Killer) -> None:
    assert killer.waiting == [], (
        f"not killed: {killer.waiting}; their steps never ran, or were over between two looks at "
        f"the round, or while the victim, or what shows the round, was still down from the last one"
    )


def assert_same_outcome(client: GatewayClient, found: RoundView, expected: RoundView) -> None:
    assert (found.state, found.error) == ("done", None)
    assert [i.image_id for i in found.selected] == [i.image_id for i in expected.selected]
    assert label_hash(client, found) == label_hash(client, expected)
    assert attempts(client, found, "train") <= 2
    same_round = [m for m in client.models(found.project) if m.round_id == found.id]
    assert len(same_round) == 1


def attempts(client: GatewayClient, found: RoundView, step: str) -> int:
    (only,) = [s for s in found.steps if s.step == step]
    return client.job(only.job_id).attempts


def label_hash(client: GatewayClient, found: RoundView) -> str:
    assert found.dataset_version is not None
    return client.dataset_version(found.project, found.dataset_version).content_hash
