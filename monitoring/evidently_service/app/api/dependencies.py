"""What an endpoint asks for."""

from typing import Annotated

from fastapi import Depends, Request

from monitoring.evidently_service.app.wiring import Dependencies


def dependencies(request: Request) -> Dependencies:
    deps: Dependencies = request.state.deps
    return deps


DepsDep = Annotated[Dependencies, Depends(dependencies)]


def known_project(project: str, deps: DepsDep) -> str:
    """Return the project's name, if there is such a project."""
    return deps.client.project(project).name


ProjectDep = Annotated[str, Depends(known_project)]
