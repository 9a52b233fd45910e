"""What every FastAPI service has: request ids, one error shape, health, metrics, internal key."""

import secrets
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Literal

import structlog
from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from prometheus_client import CollectorRegistry
from prometheus_fastapi_instrumentator import Instrumentator
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared.errors import AppError, Unauthorised, error_classes
from shared.log import configure_logging
from shared.projects import check_project_name
from shared.settings import Settings

log = structlog.stdlib.get_logger()

Check = Callable[[], None]
Checks = Callable[[Mapping[str, Any]], Mapping[str, Check]]
Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[Mapping[str, Any]]]

OPEN_PATHS = frozenset({"/healthz", "/readyz", "/metrics", "/openapi.json", "/docs"})
REQUEST_ID = "X-Request-ID"
INTERNAL_KEY = "X-Fovea-Service-Key"
PRINCIPAL = "X-Fovea-Principal"
# No standard has a number for it; this is nginx's.
HUNG_UP = 499


class ErrorBody(BaseModel):
    """The body of every answer that is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    error: str
    detail: str
    request_id: str


class Readiness(BaseModel):
    """Whether each back end of a service answers: "ok", or what is wrong."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    status: Literal["ok", "unavailable"]
    checks: dict[str, str]


def create_service(
    name: str,
    *,
    settings: Settings,
    routers: Sequence[APIRouter],
    lifespan: Lifespan,
    checks: Checks,
    internal: bool = True,
) -> FastAPI:
    """Return the service's application.

    Args:
        name: as in the logs, `data_service`.
        settings: the process's settings.
        routers: the service's own routes.
        lifespan: builds what the service needs and yields it as the state of every request.
        checks: given that state, one callable per back end that raises when it is down.
        internal: whether requests must carry the service key (all but the gateway).
    """
    configure_logging(settings, name)
    app = FastAPI(title=name, lifespan=_keep_state(lifespan), docs_url="/docs", redoc_url=None)
    for router in routers:
        app.include_router(
            router,
            responses={"default": {"model": ErrorBody}},
            dependencies=[Depends(_check_project)],
        )
    app.include_router(_health_router(checks))
    _add_error_handlers(app)
    app.add_middleware(HangUps)
    Instrumentator(
        excluded_handlers=["/metrics", "/healthz", "/readyz"], registry=CollectorRegistry()
    ).instrument(app).expose(app, include_in_schema=False)
    key = settings.service_key.get_secret_value() if internal else None
    app.add_middleware(RequestMiddleware, service_key=key)
    return app


class HangUps:
    """Ends a request whose caller hung up as the caller's own failure, not as one of ours."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap `app`."""
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        started = False

        async def note_start(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self.app(scope, receive, note_start)
        except ClientDisconnect:
            # Later it is how whoever watches a stream leaves.
            if not started:
                log.info("request.hung_up")
                # Nobody reads it, but it is counted.
                await Response(status_code=HUNG_UP)(scope, receive, send)


class RequestMiddleware:
    """Gives a request its id and binds it to the logs, asks for the key, answers where we fail."""

    def __init__(self, app: ASGIApp, service_key: str | None) -> None:
        """Wrap `app`; without `service_key` every caller is let through."""
        self.app = app
        self.service_key = service_key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = Request(scope)
        request_id = request.headers.get(REQUEST_ID) or uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        with structlog.contextvars.bound_contextvars(
            request_id=request_id, path=scope["path"], method=scope["method"]
        ):
            if not self._may_pass(request):
                exc = Unauthorised(f"{INTERNAL_KEY} is missing or wrong")
                await error_response(exc, request_id)(scope, receive, send)
                return

            started = False

            async def send_with_id(message: Message) -> None:
                nonlocal started
                if message["type"] == "http.response.start":
                    started = True
                    message["headers"] = [
                        *message["headers"],
                        (REQUEST_ID.lower().encode(), request_id.encode("latin-1")),
                    ]
                await send(message)

            try:
                await self.app(scope, receive, send_with_id)
            except Exception as exc:
                # Of half an answer the server breaks the connection off.
                if started:
                    raise
                # Raised on, it would do so behind this one, too: who asks next by that connection
                # would be the one to notice.
                log.error("request.crashed", exc_info=exc)
                await _unexpected(request_id)(scope, receive, send_with_id)

    def _may_pass(self, request: Request) -> bool:
        if self.service_key is None or request.url.path in OPEN_PATHS:
            return True
        given = request.headers.get(INTERNAL_KEY, "")
        return secrets.compare_digest(given.encode(), self.service_key.encode())


def error_response(exc: AppError, request_id: str) -> JSONResponse:
    """Return the one error body: class name, message, request id."""
    body = ErrorBody(error=exc.name, detail=str(exc), request_id=request_id)
    return JSONResponse(body.model_dump(), status_code=exc.status, headers=dict(exc.headers))


def _unexpected(request_id: str) -> JSONResponse:
    body = ErrorBody(
        error="InternalError",
        detail="an unexpected error; the log has it under this request id",
        request_id=request_id,
    )
    return JSONResponse(body.model_dump(), status_code=500)


async def _check_project(request: Request) -> None:
    # No service needs to ask another about a name that no project can have.
    if (name := request.path_params.get("project")) is not None:
        check_project_name(name)


def _keep_state(lifespan: Lifespan) -> Callable[[FastAPI], AbstractAsyncContextManager[Any]]:
    @asynccontextmanager
    async def run(app: FastAPI) -> AsyncIterator[Mapping[str, Any]]:
        async with lifespan(app) as state:
            app.state.built = state
            yield state

    return run


def _health_router(checks: Checks) -> APIRouter:
    router = APIRouter(tags=["health"])

    @router.get("/healthz", include_in_schema=False)
    def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @router.get("/readyz", include_in_schema=False)
    async def readyz(request: Request, response: Response) -> Readiness:
        results: dict[str, str] = {}
        for backend, check in checks(request.app.state.built).items():
            try:
                await run_in_threadpool(check)
                results[backend] = "ok"
            except Exception as exc:  # noqa: BLE001 - whatever a back end raises, it is named here
                results[backend] = f"{type(exc).__name__}: {exc}"[:500]
        down = [backend for backend, result in results.items() if result != "ok"]
        response.status_code = 503 if down else 200
        return Readiness(status="unavailable" if down else "ok", checks=results)

    return router


def _add_error_handlers(app: FastAPI) -> None:
    def request_id(request: Request) -> str:
        return str(getattr(request.state, "request_id", ""))

    async def app_error(request: Request, exc: Exception) -> Response:
        assert isinstance(exc, AppError)  # noqa: S101 - registered for this class alone
        if exc.status >= 500:
            log.warning("request.failed", error=exc.name, detail=str(exc))
        return error_response(exc, request_id(request))

    async def invalid(request: Request, exc: Exception) -> Response:
        assert isinstance(exc, RequestValidationError)  # noqa: S101
        detail = "; ".join(
            f"{'.'.join(str(part) for part in error['loc'])}: {error['msg']}"
            for error in exc.errors()
        )
        body = ErrorBody(error="ValidationFailed", detail=detail, request_id=request_id(request))
        return JSONResponse(body.model_dump(), status_code=422)

    async def http_error(request: Request, exc: Exception) -> Response:
        assert isinstance(exc, HTTPException)  # noqa: S101
        names = {cls.status: name for name, cls in error_classes().items() if name != "AppError"}
        names |= {404: "NotFound", 405: "MethodNotAllowed", 400: "BadRequest"}
        body = ErrorBody(
            error=names.get(exc.status_code, "HTTPError"),
            detail=f"{exc.detail}: {request.method} {request.url.path}",
            request_id=request_id(request),
        )
        return JSONResponse(body.model_dump(), status_code=exc.status_code, headers=exc.headers)

    app.add_exception_handler(AppError, app_error)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http_error)
