"""Files from addresses that strangers give: never from a private network, whatever DNS says."""

import io
import ipaddress
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, BinaryIO

import httpcore2
import httpx2

from shared.errors import BadRequest, TooLarge

if TYPE_CHECKING:
    from typing_extensions import Buffer

MAX_REDIRECTS = 3
TRIES = 4
# For one answer, from the first byte sent to the last one read.
TIMEOUT_S = 60.0
LONGEST_WAIT_S = 30.0
MAX_HOSTS = 10_000
_CONNECT_S = 5.0
# Where clouds tell a machine its secrets, though the addresses look public.
_INSIDE_CLOUDS = frozenset(
    {ipaddress.ip_address("168.63.129.16"), ipaddress.ip_address("192.0.0.192")}
)
# What is routed at all; without the ways to write an IPv4 address as an IPv6 one.
_ROUTED_V6 = ipaddress.ip_network("2000::/3")
_FAILURES = (
    httpcore2.TimeoutException,
    httpcore2.NetworkError,
    httpcore2.ProtocolError,
    httpcore2.UnsupportedProtocol,
    OSError,
)

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class UrlRefused(BadRequest):
    """The address is not one that a server may ask on somebody's behalf."""


class UrlFailed(BadRequest):
    """The address does not give the file."""


class UrlBusy(UrlFailed):
    """The address may give the file later."""

    def __init__(self, message: str, retry_after_s: float = 0.0) -> None:
        """Say when to come back, if it is known."""
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Fetcher:
    """Downloads files; each connection goes to the very address that was checked."""

    def __init__(
        self, max_bytes: int, private_hosts: Iterable[str] = (), rate_per_s: float = 0.0
    ) -> None:
        """Download at most `max_bytes` a file.

        Args:
            max_bytes: more is refused, as soon as it is announced or has come.
            private_hosts: `host` or `host:port`, may lie in a private network.
            rate_per_s: most requests a second to one host; 0 means as many as come.
        """
        self._max_bytes = max_bytes
        self._turns = _Turns(rate_per_s)
        self._deadline = _Deadline()
        self._pool = httpcore2.ConnectionPool(
            ssl_context=httpcore2.default_ssl_context(),
            # Whoever calls has its own limit.
            max_connections=None,
            max_keepalive_connections=16,
            keepalive_expiry=10.0,
            network_backend=_Guarded(frozenset(map(str.lower, private_hosts)), self._deadline),
        )

    def get(self, url: str, take: Callable[[int], None] = lambda _n_bytes: None) -> bytes:
        """Return the file at an address; `take` is told of each piece, and may refuse it.

        Raises:
            UrlRefused, UrlFailed, UrlBusy, TooLarge: as `download`.
        """
        buffer = _Taking(take)
        self.download(url, buffer)
        return buffer.getvalue()

    def download(self, url: str, target: BinaryIO, tries: int = 1) -> None:
        """Write the file at an address, through a few redirects.

        Args:
            url: its address.
            target: seekable; holds the file alone at the end.
            tries: how often it is asked for while the host is busy or breaks off.

        Raises:
            UrlRefused: it is no http or https address, or one of a private network.
            UrlFailed: there is no file.
            UrlBusy: the host asks to come back later, breaks off, or is too slow.
            TooLarge: the file is.
        """
        for attempt in range(1, tries + 1):
            target.seek(0)
            target.truncate()
            try:
                self._try(url, target)
            except UrlBusy as exc:
                if attempt == tries:
                    raise
                time.sleep(min(max(exc.retry_after_s, 0.25 * 2**attempt), LONGEST_WAIT_S))
            else:
                return

    def close(self) -> None:
        """Close every connection."""
        self._pool.close()

    def _try(self, url: str, target: BinaryIO) -> None:
        at = _parsed(url)
        left = TIMEOUT_S
        for _ in range(MAX_REDIRECTS + 1):
            self._turns.wait(at.host)
            started = self._deadline.start(left)
            try:
                location = self._ask(url, at, target)
            except _FAILURES as exc:
                msg = f"{url!r}: {exc or type(exc).__name__}"
                raise (UrlFailed if _is_for_good(exc) else UrlBusy)(msg) from exc
            if location is None:
                return
            left -= time.monotonic() - started
            at = _parsed(location, at)
        msg = f"{url!r}: more than {MAX_REDIRECTS} redirects"
        raise UrlFailed(msg)

    def _ask(self, url: str, at: httpx2.URL, target: BinaryIO) -> str | None:
        """Write the answer's body, or return where it says that the file is."""
        address = httpcore2.URL(
            scheme=at.raw_scheme, host=at.raw_host, port=at.port, target=at.raw_path
        )
        with self._pool.stream(
            "GET", address, headers={"User-Agent": "fovea", "Accept": "*/*"}
        ) as response:
            location = _header(response, b"location")
            if response.status in (301, 302, 303, 307, 308) and location:
                return location
            msg = f"{url!r}: answered {response.status}"
            if response.status in (408, 425, 429, 500, 502, 503, 504):
                after = _header(response, b"retry-after")
                raise UrlBusy(msg, float(after) if re.fullmatch("[0-9]{1,6}", after) else 0.0)
            if response.status != 200:
                raise UrlFailed(msg)
            announced = _header(response, b"content-length")
            n_bytes = int(announced) if re.fullmatch("[0-9]{1,18}", announced) else 0
            self._check_size(url, n_bytes)
            n_bytes = 0
            for part in response.iter_stream():
                n_bytes += len(part)
                self._check_size(url, n_bytes)
                target.write(part)
        return None

    def _check_size(self, url: str, n_bytes: int) -> None:
        if n_bytes > self._max_bytes:
            msg = f"{url!r}: more than {self._max_bytes} bytes"
            raise TooLarge(msg)


class _Taking(io.BytesIO):
    """Memory that asks before it grows."""

    def __init__(self, take: Callable[[int], None]) -> None:
        super().__init__()
        self._take = take

    def write(self, data: "Buffer", /) -> int:
        self._take(memoryview(data).nbytes)
        return super().write(data)


class _Deadline(threading.local):
    """When the request of this thread has to be over, whatever comes meanwhile."""

    end = float("inf")

    def start(self, seconds: float) -> float:
        """Return the time of now."""
        now = time.monotonic()
        self.end = now + seconds
        return now

    def left(self) -> float:
        left = self.end - time.monotonic()
        if left <= 0:
            msg = f"took longer than {TIMEOUT_S:g} s"
            raise httpcore2.ReadTimeout(msg)
        return left


class _Timed(httpcore2.NetworkStream):
    """A connection whose every wait ends with its request's time."""

    def __init__(self, stream: httpcore2.NetworkStream, deadline: _Deadline) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        del timeout
        return self._stream.read(max_bytes, self._deadline.left())

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        del timeout
        self._stream.write(buffer, self._deadline.left())

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore2.NetworkStream:
        del timeout
        left = min(self._deadline.left(), _CONNECT_S)
        return _Timed(self._stream.start_tls(ssl_context, server_hostname, left), self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class _Guarded(httpcore2.NetworkBackend):
    """Connects to public addresses alone; looked up once, so that DNS cannot change its mind."""

    def __init__(self, private_hosts: frozenset[str], deadline: _Deadline) -> None:
        self._private_hosts = private_hosts
        self._deadline = deadline
        self._plain = httpcore2.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.NetworkStream:
        del timeout
        allowed = not self._private_hosts.isdisjoint({host.lower(), f"{host.lower()}:{port}"})
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except UnicodeError as exc:
            msg = f"{host!r} is not the name of a host: {exc}"
            raise UrlRefused(msg) from exc
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        for address in addresses:
            if not allowed and not is_public(ipaddress.ip_address(address.partition("%")[0])):
                msg = (
                    f"{host!r} is not a host of the public internet, and "
                    f"FOVEA_FETCH_PRIVATE_HOSTS does not name it with port {port}"
                )
                raise UrlRefused(msg)
        failed: Exception | None = None
        for address in addresses:
            try:
                stream = self._plain.connect_tcp(
                    address,
                    port,
                    min(self._deadline.left(), _CONNECT_S),
                    local_address,
                    socket_options,
                )
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as exc:
                failed = exc
            else:
                return _Timed(stream, self._deadline)
        raise failed or httpcore2.ConnectError(f"{host!r} has no address")


class _Turns:
    """Lets requests to one host follow each other at a distance."""

    def __init__(self, rate_per_s: float) -> None:
        self._distance_s = 1 / rate_per_s if rate_per_s else 0.0
        self._next: dict[str, float] = {}
        self._lock = threading.Lock()

    def wait(self, host: str) -> None:
        if not self._distance_s:
            return
        with self._lock:
            now = time.monotonic()
            mine = max(now, self._next.get(host, now))
            if len(self._next) > MAX_HOSTS:
                self._next = {name: at for name, at in self._next.items() if at > now}
            self._next[host] = mine + self._distance_s
        time.sleep(mine - now)


def is_public(address: Address) -> bool:
    """Tell whether an address is one of the public internet, however it is written."""
    if address in _INSIDE_CLOUDS or address.is_multicast or not address.is_global:
        return False
    if isinstance(address, ipaddress.IPv4Address):
        return True
    embedded = address.sixtofour is not None or address.teredo is not None
    return address in _ROUTED_V6 and not embedded


def _parsed(url: str, base: httpx2.URL | None = None) -> httpx2.URL:
    """Return an address in the form that is sent: host and path in ASCII."""
    try:
        parsed = httpx2.URL(url) if base is None else base.join(url)
        usable = parsed.scheme in ("http", "https") and bool(parsed.raw_host)
        usable = usable and (parsed.port is None or 0 < parsed.port < 2**16)
    except (httpx2.InvalidURL, ValueError, TypeError) as exc:
        msg = f"{url!r}: {exc}"
        raise UrlRefused(msg) from exc
    if not usable or parsed.userinfo:
        msg = f"{url!r} is not an address like https://host/path"
        raise UrlRefused(msg)
    return parsed


def _is_for_good(exc: BaseException | None) -> bool:
    """Tell of a name that nobody has, or a certificate of somebody else: no better in a second."""
    if isinstance(exc, socket.gaierror):
        return exc.errno != socket.EAI_AGAIN
    return exc is not None and (
        isinstance(exc, ssl.SSLCertVerificationError)
        or _is_for_good(exc.__cause__ or exc.__context__)
    )


def _header(response: httpcore2.Response, name: bytes) -> str:
    found = (value for key, value in response.headers if key.lower() == name)
    return next(found, b"").decode("latin-1")
