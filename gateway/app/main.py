"""The gateway: the one door to all services."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from fastapi import FastAPI
from starlette.middleware import Middleware

from gateway.app.api import endpoints, proxy
from gateway.app.api.documentation import serve_merged_openapi
from gateway.app.api.door import Door
from gateway.app.wiring import build, checks
from shared.service import create_service
from shared.settings import Settings, load_settings


def create_app(settings: Settings | None = None) -> FastAPI:
    """Return the gateway's application."""
    settings = settings or load_settings()

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        deps = build(settings)
        writer = asyncio.create_task(deps.audit.run())
        yield {"deps": deps}
        writer.cancel()
        with suppress(asyncio.CancelledError):
            await writer
        await asyncio.to_thread(deps.audit.flush)
        await deps.close()

    routers = [endpoints.router, proxy.router]
    app = create_service(
        "gateway",
        settings=settings,
        routers=routers,
        lifespan=lifespan,
        checks=checks,
        internal=False,
    )
    serve_merged_openapi(app)
    # Innermost: what it refuses is counted and has its request id like every other answer.
    app.user_middleware.append(Middleware(Door))
    return app
