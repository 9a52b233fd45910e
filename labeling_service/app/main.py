"""The labelling service: rounds and tasks."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI

from labeling_service.app.api.endpoints import router
from labeling_service.app.wiring import build, checks
from shared.service import create_service
from shared.settings import Settings, load_settings


def create_app(settings: Settings | None = None) -> FastAPI:
    """Return the service's application."""
    settings = settings or load_settings()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[Mapping[str, Any]]:
        del app
        deps = build(settings)
        yield {"deps": deps}
        deps.close()

    return create_service(
        "labeling_service", settings=settings, routers=[router], lifespan=lifespan, checks=checks
    )
