"""What an endpoint asks for."""

from typing import Annotated

from fastapi import Depends, Request

from labeling_service.app.services.rounds import Rounds
from labeling_service.app.services.simulations import Simulations
from labeling_service.app.services.tasks import Tasks
from labeling_service.app.wiring import Dependencies


def dependencies(request: Request) -> Dependencies:
    deps: Dependencies = request.state.deps
    return deps


def rounds(request: Request) -> Rounds:
    return dependencies(request).rounds


def tasks(request: Request) -> Tasks:
    return dependencies(request).tasks


def simulations(request: Request) -> Simulations:
    return dependencies(request).simulations


RoundsDep = Annotated[Rounds, Depends(rounds)]
TasksDep = Annotated[Tasks, Depends(tasks)]
SimulationsDep = Annotated[Simulations, Depends(simulations)]
