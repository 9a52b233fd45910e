"""Routes of rounds, tasks and simulations."""

from collections.abc import Sequence

from fastapi import APIRouter

from labeling_service.app.api.dependencies import RoundsDep, SimulationsDep, TasksDep
from shared.models.data import Slug
from shared.models.rounds import AnswerCreate, LeaseCreate, RoundCreate, RoundView, TaskView
from shared.models.simulations import SimulationResults, SimulationView

router = APIRouter(prefix="/v1/projects/{project}")


@router.post("/rounds", status_code=201, tags=["rounds"])
def create_round(project: str, request: RoundCreate, rounds: RoundsDep) -> RoundView:
    """Start a round of the loop."""
    return rounds.create(project, request)


@router.get("/rounds", tags=["rounds"])
def list_rounds(project: str, rounds: RoundsDep) -> Sequence[RoundView]:
    """Return every round, the oldest first."""
    return rounds.list(project)


@router.get("/rounds/{round_id}", tags=["rounds"])
def get_round(project: str, round_id: str, rounds: RoundsDep) -> RoundView:
    """Return one round as it stands."""
    return rounds.get(project, round_id)


@router.post("/rounds/{round_id}/cancellation", tags=["rounds"])
def cancel_round(project: str, round_id: str, rounds: RoundsDep) -> RoundView:
    """Stop a round; the answers given so far stay readable."""
    return rounds.cancel(project, round_id)


@router.get("/rounds/{round_id}/tasks", tags=["tasks"])
def list_tasks(project: str, round_id: str, tasks: TasksDep) -> Sequence[TaskView]:
    """Return a round's tasks in the order of their rank."""
    return tasks.list(project, round_id)


@router.post("/leases", tags=["tasks"])
def lease_task(project: str, lease: LeaseCreate, tasks: TasksDep) -> TaskView:
    """Keep the next open task for an annotator, for 15 minutes."""
    return tasks.lease(project, lease)


@router.get("/tasks/{task_id}", tags=["tasks"])
def get_task(project: str, task_id: str, tasks: TasksDep) -> TaskView:
    """Return one task."""
    return tasks.get(project, task_id)


@router.put("/tasks/{task_id}/answer", tags=["tasks"])
def answer_task(project: str, task_id: str, answer: AnswerCreate, tasks: TasksDep) -> TaskView:
    """Save an answer; the same one twice is fine."""
    return tasks.answer(project, task_id, answer)


@router.put("/simulations/{name}", tags=["simulations"])
def put_simulation(
    project: str, name: Slug, results: SimulationResults, simulations: SimulationsDep
) -> SimulationView:
    """Keep what a replay simulation came to, in place of results of the same name."""
    return simulations.put(project, name, results)


@router.get("/simulations", tags=["simulations"])
def list_simulations(project: str, simulations: SimulationsDep) -> Sequence[SimulationView]:
    """Return every simulation of the project, the newest first."""
    return simulations.list(project)


@router.get("/simulations/{name}", tags=["simulations"])
def get_simulation(project: str, name: str, simulations: SimulationsDep) -> SimulationView:
    """Return one simulation."""
    return simulations.get(project, name)
