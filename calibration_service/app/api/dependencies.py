"""What an endpoint asks for."""

from typing import Annotated

from fastapi import Depends, Request

from calibration_service.app.wiring import Dependencies


def dependencies(request: Request) -> Dependencies:
    deps: Dependencies = request.state.deps
    return deps


def known_project(project: str, request: Request) -> str:
    dependencies(request).core.client.project(project)
    return project


DepsDep = Annotated[Dependencies, Depends(dependencies)]
ProjectDep = Annotated[str, Depends(known_project)]
