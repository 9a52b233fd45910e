"""Two processes of the inference API behind a gateway: counted, killed and changed over."""

import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx2
import psutil
import pytest

from inference_service.tests.launched import Launched, Samples, eventually, fallen, is_dead
from shared.client import GatewayClient
from shared.local.programs import programs
from shared.local.stack import ROOT, EmbeddedStack
from shared.models.registry import PromotionCreate
from shared.objects.wiring import object_store
from shared.served import Window, read_served
from shared.settings import Settings
from shared.tests.ports import free_ports
from shared.tests.stack.crowd import PROJECT, callers_keys, make_served_project

pytestmark = [pytest.mark.stack, pytest.mark.kill, pytest.mark.timeout(1200)]

N_CALLERS = 8
PREDICT = "/v1/projects/{project}/predict"


@dataclass(frozen=True)
class Pair:
    """Two processes and the gateway in front of them."""

    inference: Launched
    gateway_url: str


@dataclass(frozen=True)
class Sent:
    """One prediction: when it was sent, and what came back."""

    at: float
    status: int
    version: int
    prediction_id: str


@dataclass
class Callers:
    """Threads that predict one image after the other until told to stop."""

    url: str
    keys: list[str]
    photos: list[bytes]
    label: str
    sent: list[Sent] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def calling(self) -> Iterator[None]:
        threads = [threading.Thread(target=self._call, args=(n,)) for n in range(N_CALLERS)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()

    def _call(self, n: int) -> None:
        url = f"{self.url}/v1/projects/{PROJECT}/predict?batch={self.label}"
        headers = {"X-API-Key": self.keys[n % len(self.keys)], "Content-Type": "image/jpeg"}
        with httpx2.Client(timeout=120, headers=headers, trust_env=False) as http:
            while not self._stop.is_set():
                at = time.monotonic()
                n += 1
                answer = http.post(url, content=self.photos[n % len(self.photos)])
                body = answer.json()
                version, prediction_id = body.get("model_version", 0), body.get("prediction_id", "")
                self.sent.append(Sent(at, answer.status_code, version, prediction_id))

    def n_answered(self) -> int:
        return sum(sent.status == 200 for sent in self.sent)

    def prediction_ids(self) -> list[str]:
        return sorted(sent.prediction_id for sent in self.sent if sent.status == 200)


@pytest.fixture(scope="module")
def photos(
    stack: EmbeddedStack, client: GatewayClient, tmp_path_factory: pytest.TempPathFactory
) -> list[bytes]:
    folder = tmp_path_factory.mktemp("served")
    return [path.read_bytes() for path in make_served_project(stack, client, folder)]


@pytest.fixture(scope="module")
def pair(
    stack: EmbeddedStack, photos: list[bytes], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pair]:
    """Start the stack's own commands once more, with another setting and on other ports."""
    folder = tmp_path_factory.mktemp("pair")
    inference_port, gateway_port = free_ports(2)
    ports = stack.config.ports | {"inference": inference_port, "gateway": gateway_port}
    commands = {program.name: program.command for program in programs(folder, ports)}
    environment = stack.config.environment() | {
        "FOVEA_STATE_DIR": str(folder),
        "FOVEA_INFERENCE_PROCESSES": "2",
        "FOVEA_INFERENCE_URL": f"http://127.0.0.1:{inference_port}",
    }
    with (folder / "log").open("ab") as log:
        started = [
            subprocess.Popen(commands[name], env=environment, cwd=ROOT, stdout=log, stderr=log)
            for name in ("inference", "gateway")
        ]
    inference = Launched(
        psutil.Process(started[0].pid), f"http://127.0.0.1:{inference_port}", folder
    )
    found = Pair(inference, f"http://127.0.0.1:{gateway_port}")
    try:
        eventually(lambda: both_predict(found, stack.api_key, photos[0]), folder / "log")
        yield found
    finally:
        for process in started:
            process.terminate()
        for process in started:
            process.wait(timeout=30)


@pytest.fixture
def callers(
    stack: EmbeddedStack, pair: Pair, photos: list[bytes], request: pytest.FixtureRequest
) -> Callers:
    return Callers(pair.gateway_url, callers_keys(stack), photos, request.node.name)


def both_predict(pair: Pair, key: str, photo: bytes) -> bool:
    """Send a few predictions at once; tell whether each process has answered one by now."""
    headers = {"X-API-Key": key, "Content-Type": "image/jpeg"}
    url = f"{pair.gateway_url}/v1/projects/{PROJECT}/predict"

    def predict(_n: int) -> int:
        return httpx2.post(url, content=photo, headers=headers, timeout=240).status_code

    with ThreadPoolExecutor(N_CALLERS) as pool:
        try:
            statuses = set(pool.map(predict, range(N_CALLERS)))
        except httpx2.TransportError:
            return False
    pids = {process.pid for process in pair.inference.serving()}
    return statuses == {200} and len(pids) == 2 and pids <= set(pair.inference.n_by_process())


def n_predictions(samples: Samples, status: str = "2xx") -> float:
    labels = frozenset({"handler": PREDICT, "method": "POST", "status": status}.items())
    return samples.get(("http_requests_total", labels), 0.0)


def logged(stack: EmbeddedStack, label: str) -> list[str]:
    """Return the served predictions of a batch label, of any model version."""
    store = object_store(Settings(object_store_url=f"file:{stack.state / 'objects'}"))
    window = Window(batch=label)
    found = [
        served for version in (1, 2) for served in read_served(store, PROJECT, version, window)
    ]
    return sorted(served.prediction_id for served in found)


def test_what_two_processes_answer_is_counted_and_logged_once(
    stack: EmbeddedStack, pair: Pair, callers: Callers
) -> None:
    before, apart = pair.inference.samples(), pair.inference.n_by_process()
    seen = [before]
    with callers.calling():
        while len(seen) <= 50 or callers.n_answered() < 100:
            seen.append(pair.inference.samples())
            assert fallen(seen[-2], seen[-1]) == []
    assert Counter(sent.status for sent in callers.sent) == {200: len(callers.sent)}
    expected = n_predictions(before) + len(callers.sent)
    eventually(lambda: n_predictions(pair.inference.samples()) >= expected)
    assert n_predictions(pair.inference.samples()) == expected
    assert all(n > apart[pid] for pid, n in pair.inference.n_by_process().items())
    eventually(lambda: len(logged(stack, callers.label)) >= len(callers.sent))
    assert logged(stack, callers.label) == callers.prediction_ids()


def test_a_promotion_reaches_both_processes_and_no_request_fails(
    pair: Pair, client: GatewayClient, callers: Callers
) -> None:
    with callers.calling():
        eventually(lambda: callers.n_answered() >= 20)
        client.promote(PROJECT, PromotionCreate(model_version=2))
        eventually(lambda: {sent.version for sent in callers.sent[-60:]} == {2})
    assert Counter(sent.status for sent in callers.sent) == {200: len(callers.sent)}
    assert {sent.version for sent in callers.sent} == {1, 2}


def test_a_killed_process_takes_no_later_request_along(
    stack: EmbeddedStack, pair: Pair, callers: Callers
) -> None:
    before = pair.inference.samples()
    victim = pair.inference.serving()[0]
    with callers.calling():
        eventually(lambda: callers.n_answered() >= 20)
        victim.send_signal(signal.SIGKILL)
        eventually(lambda: is_dead(victim))
        dead_at = time.monotonic()
        n_then = callers.n_answered()
        eventually(lambda: callers.n_answered() >= n_then + 100)
        eventually(lambda: len(pair.inference.serving()) == 2)
        seen = [before]
        while len(seen) <= 50:
            seen.append(pair.inference.samples())
            assert fallen(seen[-2], seen[-1]) == []
    lost = [sent for sent in callers.sent if sent.status != 200]
    assert [sent for sent in lost if sent.at > dead_at] == []
    assert len(lost) <= N_CALLERS
    # Also what the killed one had logged and not yet written to the store.
    eventually(lambda: set(callers.prediction_ids()) <= set(logged(stack, callers.label)))
