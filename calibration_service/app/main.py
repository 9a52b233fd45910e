"""The calibration service."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI

from calibration_service.app.api import endpoints
from calibration_service.app.wiring import build, checks
from shared.service import create_service
from shared.settings import Settings, load_settings


def create_app(settings: Settings | None = None) -> FastAPI:
    """Return the service's application."""
    settings = settings or load_settings()

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        deps = build(settings)
        yield {"deps": deps}
        deps.close()

    return create_service(
        "calibration_service",
        settings=settings,
        routers=[endpoints.router],
        lifespan=lifespan,
        checks=checks,
    )
