"""What endpoints get from the application's state."""

from typing import Annotated, cast

from fastapi import Depends, Request

from data_service.app.wiring import Dependencies


def get_dependencies(request: Request) -> Dependencies:
    return cast(Dependencies, request.state.deps)


Deps = Annotated[Dependencies, Depends(get_dependencies)]
