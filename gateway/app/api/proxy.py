"""Everything under `/v1` that the gateway does not answer itself goes on to a service."""

import asyncio
import time
from collections.abc import AsyncIterator

import httpx2
import structlog
from fastapi import APIRouter, Request, Response
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from gateway.app.api.dependencies import DepsDep, PrincipalDep
from gateway.app.core.routes import max_body_bytes, service_of
from gateway.app.services.proxy import Forwarded, Proxy, headers_back
from shared.errors import RequestTimeout

log = structlog.stdlib.get_logger()

router = APIRouter(include_in_schema=False)

# A body has this long, and a second more for so many bytes that came: who stalls, or drips, would
# hold one of a service's places for ever. Only the time in which we wait for the caller counts.
BODY_WAIT_S = 20.0
SLOWEST_BYTES_PER_S = 5_000

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]


@router.api_route("/v1/{path:path}", methods=METHODS)
async def forward(request: Request, deps: DepsDep, principal: PrincipalDep) -> Response:
    body = Body(request.receive)
    headers = request.headers.raw
    limit = deps.settings.max_upload_mb << 20
    # Our own services hand over a round's labels as one body.
    if principal.role != "service":
        limit = max_body_bytes(request.url.path, limit)
    forwarded = Forwarded(
        service=service_of(request.url.path),
        method=request.method,
        target=target_of(request.scope),
        headers=headers,
        body=body.chunks() if has_body(headers) else None,
        max_bytes=limit,
        request_id=request.state.request_id,
        principal=principal.name,
    )
    return ProxiedResponse(deps.proxy, forwarded, body)


class Body:
    """The caller's side of the connection: pieces of a body, then nothing until the hang-up."""

    def __init__(self, receive: Receive) -> None:
        """Read from `receive`."""
        self._receive = receive
        self._over = asyncio.Event()

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the pieces of the body.

        Raises:
            ClientDisconnect: the caller hung up in the middle.
            RequestTimeout: the next one does not come in time.
        """
        more, left = True, BODY_WAIT_S
        while more:
            asked = time.monotonic()
            try:
                async with asyncio.timeout(left):
                    message = await self._receive()
            except TimeoutError as exc:
                msg = f"the body stalled, or came at less than {SLOWEST_BYTES_PER_S} bytes a second"
                raise RequestTimeout(msg) from exc
            left += len(message.get("body", b"")) / SLOWEST_BYTES_PER_S - time.monotonic() + asked
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            more = message.get("more_body", False)
            if message.get("body"):
                yield message["body"]
        self._over.set()

    def leave(self) -> None:
        """Read no further pieces: there are none, or the answer is there already."""
        self._over.set()

    async def wait_for_hang_up(self) -> None:
        """Return when the caller is gone, which can only be seen once the body was read."""
        await self._over.wait()
        while (await self._receive())["type"] != "http.disconnect":
            pass


class ProxiedResponse(Response):
    """A service's answer, passed on piece by piece; a caller who hangs up ends both connections."""

    def __init__(self, proxy: Proxy, forwarded: Forwarded, body: Body) -> None:
        """Send `forwarded` on when it is this response's turn."""
        super().__init__()
        self._proxy = proxy
        self._forwarded = forwarded
        self._caller = body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and its answer back."""
        del scope, receive
        answer = asyncio.create_task(self._answer(send))
        hang_up = asyncio.create_task(self._caller.wait_for_hang_up())
        try:
            await asyncio.wait({answer, hang_up}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ended = answer.done()
            answer.cancel()
            hang_up.cancel()
            await asyncio.gather(answer, hang_up, return_exceptions=True)
        if not ended:
            raise ClientDisconnect
        answer.result()

    async def _answer(self, send: Send) -> None:
        if self._forwarded.body is None:
            self._caller.leave()
        response = await self._proxy.send(self._forwarded)
        self._caller.leave()
        try:
            await self._pass_back(response, send)
        except httpx2.TransportError as exc:
            # Too late for an error body; our server cuts an answer short that never ends.
            log.warning("upstream.broke", service=self._forwarded.service, reason=repr(exc))
        finally:
            await response.aclose()

    async def _pass_back(self, response: httpx2.Response, send: Send) -> None:
        start = {"status": response.status_code, "headers": headers_back(response)}
        await send({"type": "http.response.start", **start})
        async for chunk in response.aiter_raw():
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def has_body(headers: list[tuple[bytes, bytes]]) -> bool:
    """Tell whether a request has a body, which HTTP/1.1 says by one of two headers."""
    given = dict(headers)
    return b"transfer-encoding" in given or given.get(b"content-length", b"0") != b"0"


def target_of(scope: Scope) -> bytes:
    """Return path and query, percent-encoded as they came."""
    query: bytes = scope["query_string"]
    path: bytes = scope["raw_path"]
    return path + b"?" + query if query else path
