"""A service that tells what it was sent, for the proxy's tests."""

import json
from dataclasses import dataclass, field
from typing import Any

from starlette.types import Message, Receive, Scope, Send

EVENTS = 3


@dataclass
class Echo:
    """An ASGI application; what it saw is kept for the test to look at.

    Attributes:
        headers: of the last request.
        n_requests: how many came.
        hung_up: whether a caller hung up on an event stream.
        document: its OpenAPI.
    """

    headers: list[tuple[str, str]] = field(default_factory=list)
    n_requests: int = 0
    hung_up: bool = False
    document: dict[str, Any] = field(default_factory=dict)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _live(receive, send)
            return
        self.n_requests += 1
        self.headers = [(n.decode(), v.decode()) for n, v in scope["headers"]]
        kind = scope["path"].rsplit("/", 1)[-1]
        match kind:
            case "size":
                await _answer(send, {"n_bytes": await _count(receive)})
            case "big":
                await _big(send, int(dict(self.headers).get("x-mib", "1")))
            case "events":
                await self._events(receive, send)
            case "broken":
                await _start(send, [(b"content-length", b"1000")])
                await send({"type": "http.response.body", "body": b"x" * 10, "more_body": False})
            case "early":
                await _answer(send, {"early": True}, 422)
            case "healthz":
                await _answer(send, {"status": "ok"})
            case "openapi.json":
                await _answer(send, self.document)
            case _:
                target = scope["raw_path"].decode() + "?" + scope["query_string"].decode()
                body = {"method": scope["method"], "target": target, "headers": self.headers}
                await _answer(send, body, 201 if scope["method"] == "POST" else 200)

    async def _events(self, receive: Receive, send: Send) -> None:
        await _start(send, [(b"content-type", b"text/event-stream")])
        await send({"type": "http.response.body", "body": b"data: first\n\n", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass
        self.hung_up = True


async def _live(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


async def _count(receive: Receive) -> int:
    n_bytes, more = 0, True
    while more:
        message: Message = await receive()
        n_bytes += len(message.get("body", b""))
        more = message.get("more_body", False)
    return n_bytes


async def _big(send: Send, n_mib: int) -> None:
    await _start(send, [])
    for _ in range(n_mib):
        await send({"type": "http.response.body", "body": bytes(1 << 20), "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _answer(send: Send, body: object, status: int = 200) -> None:
    headers = [(b"content-type", b"application/json"), (b"x-fovea-secret", b"s"), (b"x-own", b"o")]
    await _start(send, headers, status)
    await send({"type": "http.response.body", "body": json.dumps(body).encode()})


async def _start(send: Send, headers: list[tuple[bytes, bytes]], status: int = 200) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
