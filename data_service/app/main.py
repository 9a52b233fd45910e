"""The application of data_service."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from fastapi import FastAPI

from data_service.app.api import endpoints, images, versions
from data_service.app.wiring import Dependencies, build
from shared.service import create_service
from shared.settings import Settings, load_settings


def create_app(settings: Settings | None = None) -> FastAPI:
    """Return the application of data_service."""
    chosen = settings or load_settings()

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[Mapping[str, Dependencies]]:
        deps = build(chosen)
        yield {"deps": deps}
        deps.close()

    return create_service(
        "data_service",
        settings=chosen,
        routers=[endpoints.router, images.router, versions.router],
        lifespan=lifespan,
        checks=lambda state: state["deps"].checks(),
    )
