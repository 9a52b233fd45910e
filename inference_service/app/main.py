"""The inference service: predictions, scorings and neighbours over HTTP."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

from anyio import to_thread
from fastapi import FastAPI

from inference_service.app.api.batches import router as batches
from inference_service.app.api.endpoints import router
from inference_service.app.api.search import router as search
from inference_service.app.processes import end_with_launcher
from inference_service.app.wiring import Dependencies, build
from shared.service import create_service
from shared.settings import Settings, load_settings


def create_app(
    settings: Settings | None = None, build: Callable[[Settings], Dependencies] = build
) -> FastAPI:
    """Return the application on what `build` makes."""
    given = settings or load_settings()
    chosen = given.divided(given.inference_processes)
    end_with_launcher()

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[Mapping[str, Dependencies]]:
        deps = build(chosen)
        deps.start()
        # A thread for each request that may be inside, and some for those that look around.
        to_thread.current_default_thread_limiter().total_tokens = deps.in_flight.limit + 16
        yield {"deps": deps}
        deps.close()

    return create_service(
        "inference_service",
        settings=chosen,
        routers=[router, search, batches],
        lifespan=lifespan,
        checks=lambda state: state["deps"].checks(),
    )
