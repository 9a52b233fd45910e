"""What routes are given."""

from typing import Annotated

from fastapi import Depends, Request

from training_service.app.wiring import Dependencies


def dependencies(request: Request) -> Dependencies:
    deps: Dependencies = request.state.deps
    return deps


Deps = Annotated[Dependencies, Depends(dependencies)]
