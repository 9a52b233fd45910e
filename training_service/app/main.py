"""training_service: trainings, evaluations and models over HTTP."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI

from shared.service import Check, create_service
from shared.settings import Settings, load_settings
from training_service.app.api.endpoints import router
from training_service.app.wiring import Dependencies, build


def create_app(
    settings: Settings | None = None, build: Callable[[Settings], Dependencies] = build
) -> FastAPI:
    """Return the application on what `build` makes."""
    chosen = settings or load_settings()

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[Mapping[str, Any]]:
        deps = build(chosen)
        yield {"deps": deps}
        deps.close()

    return create_service(
        "training_service", settings=chosen, routers=[router], lifespan=lifespan, checks=_checks
    )


def _checks(state: Mapping[str, Any]) -> Mapping[str, Check]:
    deps = state["deps"]
    return {
        "database": deps.database.check,
        "broker": deps.bell.check,
        "mlflow": deps.registry.check,
    }
