"""Load for a benchmark: clients in a closed loop, each on a connection that it keeps."""

import statistics
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException

import numpy as np

TIMEOUT_S = 120.0
BOUNDARY = "photo-of-a-benchmark"
BUSY = 503


@dataclass(frozen=True)
class Target:
    """Where a system takes photos."""

    name: str
    host: str
    port: int
    path: str
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Load:
    """What one system did under one load.

    Attributes:
        rps: answers a second, 503 not counted.
        p50_ms, p99_ms: from sending a photo to the end of its answer.
        n_busy: answers 503.
    """

    rps: float
    p50_ms: float
    p99_ms: float
    n_busy: int


@dataclass(frozen=True)
class _Answered:
    at: float
    seconds: float
    busy: bool


class UnexpectedAnswer(Exception):
    """Neither 200 nor 503, or no answer at all."""


class Client:
    """One caller."""

    def __init__(self, target: Target) -> None:
        """Connect at the first call."""
        self._target = target
        self._connection = HTTPConnection(target.host, target.port, timeout=TIMEOUT_S)
        self._headers = {
            "Content-Type": f"multipart/form-data; boundary={BOUNDARY}",
            **target.headers,
        }

    def post(self, body: bytes) -> bytes | None:
        """Return the answer to a form, None where the system is busy.

        Raises:
            UnexpectedAnswer: the system answers something else.
        """
        try:
            self._connection.request("POST", self._target.path, body, self._headers)
            response = self._connection.getresponse()
            answer = response.read()
        except (OSError, HTTPException) as exc:
            msg = f"{self._target.name}: {type(exc).__name__}: {exc}"
            raise UnexpectedAnswer(msg) from exc
        if response.status not in {200, BUSY}:
            msg = f"{self._target.name}: {response.status}: {answer[:500].decode(errors='replace')}"
            raise UnexpectedAnswer(msg)
        return answer if response.status == 200 else None

    def close(self) -> None:
        """Hang up."""
        self._connection.close()


def form_of(photo: bytes) -> bytes:
    """Return the body of a form with a photo as its field `file`."""
    head = (
        f"--{BOUNDARY}\r\n"
        'Content-Disposition: form-data; name="file"; filename="photo.jpg"\r\n'
        "Content-Type: image/jpeg\r\n\r\n"
    )
    return head.encode() + photo + f"\r\n--{BOUNDARY}--\r\n".encode()


def answers_of(target: Target, forms: Sequence[bytes], n_clients: int) -> list[bytes]:
    """Return the answer to each form, in their order, sent by some clients at once.

    Raises:
        UnexpectedAnswer: one is no answer.
    """
    answers = [b""] * len(forms)

    def ask(first: int) -> None:
        client = Client(target)
        for n in range(first, len(forms), n_clients):
            answer = client.post(forms[n])
            if answer is None:
                msg = f"{target.name}: {BUSY} with {n_clients} clients"
                raise UnexpectedAnswer(msg)
            answers[n] = answer
        client.close()

    with ThreadPoolExecutor(n_clients) as pool:
        list(pool.map(ask, range(n_clients)))
    return answers


def measure(target: Target, forms: Sequence[bytes], n_clients: int, seconds: float) -> Load:
    """Return what a system does while some clients send photo after photo.

    Counting begins when every client has had an answer: before that they all come at once.

    Raises:
        UnexpectedAnswer: one is no answer.
    """
    stop = threading.Event()
    answered: list[list[_Answered]] = [[] for _ in range(n_clients)]
    with ThreadPoolExecutor(n_clients) as pool:
        clients = [
            # Each begins with another photo.
            pool.submit(_send, target, _turned(forms, n), stop, own)
            for n, own in enumerate(answered)
        ]
        try:
            _wait(clients, lambda: all(answered))
            start = time.perf_counter()
            _wait(clients, lambda: time.perf_counter() - start >= seconds)
            # A slow system in a short measurement.
            _wait(clients, lambda: any(own and own[-1].at >= start for own in answered))
            end = time.perf_counter()
        finally:
            stop.set()
    for client in clients:
        client.result()
    everything = [answer for own in answered for answer in own]
    if all(a.busy for a in everything if start <= a.at < end):
        msg = f"{target.name}: {BUSY} to everything with {n_clients} clients"
        raise UnexpectedAnswer(msg)
    return _load(everything, start, end)


def added_p50_ms(near: Target, far: Target, forms: Sequence[bytes], seconds: float) -> float:
    """Return how much later one client has its answers by `far`, asking both in turn."""
    clients = Client(near), Client(far)
    times: tuple[list[float], list[float]] = ([], [])
    end = time.perf_counter() + seconds
    n = 0
    while n < 10 or time.perf_counter() < end:
        # Who is asked second finds warm caches: each is as often the second.
        for which in (0, 1) if n % 2 else (1, 0):
            started = time.perf_counter()
            clients[which].post(forms[n % len(forms)])
            times[which].append(time.perf_counter() - started)
        n += 1
    for client in clients:
        client.close()
    return 1000 * (statistics.median(times[1]) - statistics.median(times[0]))


def _send(
    target: Target, forms: Sequence[bytes], stop: threading.Event, answered: list[_Answered]
) -> None:
    client = Client(target)
    n = 0
    while not stop.is_set():
        started = time.perf_counter()
        answer = client.post(forms[n % len(forms)])
        ended = time.perf_counter()
        answered.append(_Answered(ended, ended - started, busy=answer is None))
        if answer is None:
            # As `Retry-After` asks, but for the end of a measurement.
            stop.wait(1.0)
        n += 1
    client.close()


def _turned(forms: Sequence[bytes], n: int) -> list[bytes]:
    """Return the forms from another one on."""
    first = n % len(forms)
    return [*forms[first:], *forms[:first]]


def _wait(clients: Sequence["Future[None]"], done: Callable[[], bool]) -> None:
    # A client ends early by an error alone, which is raised once all have ended.
    while not done() and not any(client.done() for client in clients):
        time.sleep(0.01)


def _load(answered: Sequence[_Answered], start: float, end: float) -> Load:
    good = [a for a in answered if not a.busy]
    # Each counts by its part in the measurement: they come in batches, of which a second has two.
    parts = [max(0.0, min(a.at, end) - max(a.at - a.seconds, start)) / a.seconds for a in good]
    ms = [1000 * a.seconds for a in good if start <= a.at < end]
    p50, p99 = np.percentile(ms, [50, 99])
    return Load(
        rps=round(sum(parts) / (end - start), 2),
        p50_ms=round(float(p50), 1),
        p99_ms=round(float(p99), 1),
        n_busy=sum(a.busy and start <= a.at < end for a in answered),
    )
