"""What an endpoint asks for."""

from typing import Annotated

from fastapi import Depends, Request

from gateway.app.core.roles import Principal
from gateway.app.wiring import Dependencies


# `async`: a plain function would have a thread of the pool look it up.
async def dependencies(request: Request) -> Dependencies:
    deps: Dependencies = request.state.deps
    return deps


async def principal(request: Request) -> Principal:
    found: Principal = request.state.principal
    return found


DepsDep = Annotated[Dependencies, Depends(dependencies)]
PrincipalDep = Annotated[Principal, Depends(principal)]
