"""The streaming proxy: bodies pass through in pieces, in both directions."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

import httpx2
from pydantic import SecretStr

from gateway.app.core.routes import Service
from shared.errors import BackendUnavailable, TooLarge
from shared.service import INTERNAL_KEY, PRINCIPAL, REQUEST_ID

Headers = list[tuple[bytes, bytes]]

# A service that is down refuses a connection at once; under a crowd making one takes seconds.
TIMEOUT = httpx2.Timeout(connect=10.0, read=300.0, write=60.0, pool=10.0)
# Shorter than the 5 s after which uvicorn closes an idle connection, lest we reuse a closing one.
LIMITS = httpx2.Limits(max_connections=1000, max_keepalive_connections=50, keepalive_expiry=2.0)

HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
# Keys stay at the door; `Expect` is answered by our own server.
NOT_SENT_ON = frozenset({b"host", b"authorization", b"x-api-key", b"x-request-id", b"expect"})
# Our own server writes these.
NOT_SENT_BACK = frozenset({b"date", b"server", b"x-request-id"})
OURS = b"x-fovea-"


@dataclass(frozen=True)
class Forwarded:
    """One request as it goes on to a service.

    Attributes:
        service: that answers it.
        method: of HTTP.
        target: path and query, percent-encoded as they came.
        headers: as they came.
        body: its pieces, or None without a body.
        max_bytes: how large the body may be.
        request_id: sent on, so that all logs name the same.
        principal: name of who asks.
    """

    service: Service
    method: str
    target: bytes
    headers: Headers
    body: AsyncIterator[bytes] | None
    max_bytes: int
    request_id: str
    principal: str


class Proxy:
    """Sends requests on to the services."""

    def __init__(self, urls: Mapping[Service, str], service_key: SecretStr) -> None:
        """Reach the services at `urls`, with the key that they ask for."""
        self._urls = urls
        self._service_key = service_key.get_secret_value()
        # No proxy of the environment stands between us and our own services.
        self._http = httpx2.AsyncClient(timeout=TIMEOUT, limits=LIMITS, trust_env=False)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def send(self, forwarded: Forwarded) -> httpx2.Response:
        """Send a request on and return the answer as soon as its headers are there.

        The caller must close it. A GET without a body is tried once more when the service does not
        take or breaks the connection.

        Raises:
            TooLarge: the body is over the limit.
            BackendUnavailable: the service does not answer; the message names it.
        """
        _check_length(forwarded)
        tries = 2 if forwarded.method == "GET" and forwarded.body is None else 1
        for attempt in range(1, tries + 1):
            try:
                return await self._http.send(self._request(forwarded), stream=True)
            except httpx2.TransportError as exc:
                if attempt == tries or isinstance(exc, httpx2.ReadTimeout):
                    msg = _reason(forwarded.service, self._urls[forwarded.service], exc)
                    raise BackendUnavailable(msg) from exc
        raise AssertionError  # the loop returns or raises

    async def get_json(self, service: Service, path: str) -> bytes:
        """Return the body of one of a service's open paths.

        Raises:
            BackendUnavailable: the service does not answer, or not well.
        """
        url = self._urls[service]
        try:
            response = await self._http.get(url + path, timeout=10.0)
        except httpx2.TransportError as exc:
            raise BackendUnavailable(_reason(service, url, exc)) from exc
        if response.is_error:
            msg = f"{service} ({url}): {path} answers {response.status_code}"
            raise BackendUnavailable(msg)
        return response.content

    def _request(self, forwarded: Forwarded) -> httpx2.Request:
        url = httpx2.URL(self._urls[forwarded.service]).copy_with(raw_path=forwarded.target)
        headers = [
            *_end_to_end(forwarded.headers, NOT_SENT_ON),
            (INTERNAL_KEY.encode(), self._service_key.encode()),
            (PRINCIPAL.encode(), forwarded.principal.encode("latin-1")),
            (REQUEST_ID.encode(), forwarded.request_id.encode("latin-1")),
        ]
        body = forwarded.body
        # Without the client's defaults, which ask for encodings that the caller may not read.
        return httpx2.Request(
            forwarded.method,
            url,
            headers=headers,
            content=None if body is None else _limited(body, forwarded.max_bytes),
            extensions={"timeout": TIMEOUT.as_dict()},
        )


def headers_back(response: httpx2.Response) -> Headers:
    """Return the headers of a service's answer that the caller gets."""
    return _end_to_end(response.headers.raw, NOT_SENT_BACK)


def _end_to_end(headers: Headers, without: frozenset[bytes]) -> Headers:
    named = {
        token.strip().lower()
        for name, value in headers
        if name.lower() == b"connection"
        for token in value.split(b",")
    }
    dropped = HOP_BY_HOP | without | named
    return [
        (name, value)
        for name, value in headers
        if name.lower() not in dropped and not name.lower().startswith(OURS)
    ]


def _reason(service: Service, url: str, exc: httpx2.TransportError) -> str:
    return f"{service} ({url}): {type(exc).__name__} {exc}".rstrip()


def _check_length(forwarded: Forwarded) -> None:
    length = dict(forwarded.headers).get(b"content-length", b"0")
    if not length.isdigit() or int(length) > forwarded.max_bytes:
        raise _too_large(f"a body of {length.decode('latin-1')} bytes", forwarded.max_bytes)


async def _limited(body: AsyncIterator[bytes], max_bytes: int) -> AsyncIterator[bytes]:
    n_bytes = 0
    async for chunk in body:
        n_bytes += len(chunk)
        if n_bytes > max_bytes:
            raise _too_large("the body", max_bytes)
        yield chunk


def _too_large(what: str, max_bytes: int) -> TooLarge:
    return TooLarge(f"{what} is over the limit of {max_bytes} bytes")
