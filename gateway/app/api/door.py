"""The door: who asks, how often, may they; and a line in the audit log for what changes things."""

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.app.core.roles import ANONYMOUS, READ_METHODS, Principal, check_role, is_open
from gateway.app.services.audit import Audited, job_id_in, project_in, project_of_job
from gateway.app.services.keys import digest
from gateway.app.wiring import Dependencies
from shared.database import utcnow
from shared.errors import AppError, RateLimited, Unauthorised
from shared.service import error_response

GUARDED = "/v1/"


class Door:
    """Lets a request to `/v1` pass with a known key, within its rate, as far as its role goes."""

    def __init__(self, app: ASGIApp) -> None:
        """Stand in front of `app`."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve or refuse one request."""
        if scope["type"] != "http" or not scope["path"].startswith(GUARDED):
            await self._app(scope, receive, send)
            return
        deps: Dependencies = scope["state"]["deps"]
        request = Request(scope)
        try:
            principal = await identify(request, deps)
            count(request, principal, deps)
        except AppError as exc:
            await refuse(exc, scope, receive, send)
            return
        scope["state"]["principal"] = principal
        if request.method in READ_METHODS:
            await self._guard(scope, receive, send)
        else:
            await self._audit(scope, receive, send)

    async def _guard(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            check_role(scope["state"]["principal"], scope["method"], scope["path"])
        except AppError as exc:
            await refuse(exc, scope, receive, send)
            return
        await self._app(scope, receive, send)

    async def _audit(self, scope: Scope, receive: Receive, send: Send) -> None:
        status = 0

        async def note_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        state = scope["state"]
        # Before the request, which may delete the job that knows it.
        project = await project_of(Request(scope), state["deps"])
        try:
            await self._guard(scope, receive, note_status)
        finally:
            state["deps"].audit.add(
                Audited(
                    time=utcnow(),
                    principal=state["principal"].name,
                    method=scope["method"][:16],
                    path=storable(scope["path"], 500),
                    project=None if project is None else storable(project, 64),
                    status=status,
                    request_id=state["request_id"][:128],
                )
            )


async def project_of(request: Request, deps: Dependencies) -> str | None:
    """Return the project that a request is about, if one can be told."""
    path = request.scope["path"]
    if job_id := job_id_in(path):
        return await run_in_threadpool(project_of_job, deps.jobs, job_id)
    return project_in(path, request.query_params)


def storable(text: str, n_characters: int) -> str:
    """Return as much of a text as fits a column; PostgreSQL holds no NUL."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")[:n_characters]


async def identify(request: Request, deps: Dependencies) -> Principal:
    """Return who sends a request, by the key in `Authorization` or `X-API-Key`.

    Raises:
        Unauthorised: there is no key, or it is unknown or revoked.
        RateLimited: the rate of the address is used up, and the key is not one just seen.
    """
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    key = token.strip() if scheme.lower() == "bearer" else request.headers.get("X-API-Key", "")
    if key:
        sha256 = digest(key)
        known = deps.keys.remembered(sha256)
        if known is not None:
            return known
        # Whoever guesses keys has the database asked no more often than this.
        take(address(request), deps)
        return await run_in_threadpool(deps.keys.look_up, sha256)
    if is_open(request.method, request.url.path):
        return ANONYMOUS
    msg = "an API key is needed: Authorization: Bearer fov_…"
    raise Unauthorised(msg)


def count(request: Request, principal: Principal, deps: Dependencies) -> None:
    """Count a request against its key's rate, or its address's without a key.

    Raises:
        RateLimited: the rate is used up; it says after how many seconds to try again.
    """
    if principal.role == "service":
        return
    take(address(request) if principal is ANONYMOUS else principal.id, deps)


def address(request: Request) -> str:
    """Return the address that a request comes from."""
    return request.client.host if request.client else ""


def take(caller: str, deps: Dependencies) -> None:
    """Take one request out of a caller's rate.

    Raises:
        RateLimited: the rate is used up; it says after how many seconds to try again.
    """
    wait_s = deps.limiter.take(caller)
    if wait_s:
        msg = f"more than {deps.settings.request_rate_per_s:g} requests a second"
        raise TooManyRequests(msg, wait_s)


class TooManyRequests(RateLimited):
    """This caller's rate is used up."""

    def __init__(self, message: str, wait_s: int) -> None:
        """Keep after how many seconds a request will pass again."""
        super().__init__(message)
        self.wait_s = wait_s


async def refuse(exc: AppError, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a request with an error."""
    response = error_response(exc, scope["state"]["request_id"])
    if isinstance(exc, TooManyRequests):
        response.headers["Retry-After"] = str(exc.wait_s)
    await response(scope, receive, send)
