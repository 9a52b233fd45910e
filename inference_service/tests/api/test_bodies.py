"""How much of requests is in memory at once."""

from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from fastapi.testclient import TestClient

from inference_service.app.api import dependencies
from inference_service.app.core.body_budget import BodyBudget
from inference_service.tests.neighbours import PROJECT, LocalGateway
from inference_service.tests.tiny import picture, png
from shared.fetch import Fetcher

URL = f"/v1/projects/{PROJECT}/predict"
DATA = png(picture(0))
IMAGE = {"Content-Type": "image/png"}


@pytest.fixture
def bodies(client: TestClient) -> BodyBudget:
    bodies = BodyBudget(len(DATA) + 1000)
    client.app_state["deps"] = replace(client.app_state["deps"], bodies=bodies)
    return bodies


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(DATA)

    def log_message(self, *_args: object) -> None:
        pass


@pytest.fixture
def address(client: TestClient) -> Iterator[str]:
    """Return where the picture lies, in a network that this service may ask."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    deps = client.app_state["deps"]
    fetcher = Fetcher(len(DATA), ["127.0.0.1"])
    predictor = replace(deps.predictor, fetcher=fetcher)
    client.app_state["deps"] = replace(deps, predictor=predictor)
    yield f"http://127.0.0.1:{server.server_port}/a.png"
    fetcher.close()
    server.shutdown()
    server.server_close()


def in_pieces() -> Iterator[bytes]:
    """Return a body whose length is not announced."""
    for at in range(0, len(DATA), 1000):
        yield DATA[at : at + 1000]


def test_a_file_for_which_there_is_no_memory_is_told_to_come_back(
    client: TestClient, bodies: BodyBudget
) -> None:
    sent = {"file": ("a.png", DATA)}
    with bodies.share() as take:
        take(1001)
        answers = [
            client.post(URL, files=sent),
            client.post(URL, content=DATA, headers=IMAGE),
            client.post(URL, content=in_pieces(), headers=IMAGE),
        ]
        small = client.post(URL, json={"image_id": "unknown"})
    assert [(a.status_code, a.json()["error"]) for a in answers] == [(503, "ServingBusy")] * 3
    assert {a.headers["Retry-After"] for a in answers} == {"1"}
    assert small.status_code == 404


def form_in_pieces(n_read: list[int]) -> Iterator[bytes]:
    """Return a form of a file that does not end, whose length is not announced."""
    yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n'
    for _ in range(200):
        n_read.append(1000)
        yield bytes(1000)
    yield b"\r\n--x--\r\n"


def test_a_form_is_not_read_further_than_there_is_memory(
    client: TestClient, bodies: BodyBudget
) -> None:
    n_read: list[int] = []
    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    answer = client.post(URL, content=form_in_pieces(n_read), headers=kind)
    assert (answer.status_code, answer.json()["error"]) == (503, "ServingBusy")
    with bodies.share() as take:
        take(len(DATA) + 1000)
    broken = client.post(URL, content=b"--y\r\n", headers=kind)
    assert broken.status_code == 400


def test_a_stored_image_counts_as_one_that_is_sent(
    client: TestClient, bodies: BodyBudget, gateway: LocalGateway
) -> None:
    image = gateway.add(0)
    assert client.post(URL, json={"image_id": image.id}).status_code == 200
    with bodies.share() as take:
        take(len(DATA) + 900)
        busy = client.post(URL, json={"image_id": image.id})
    assert (busy.status_code, busy.json()["error"]) == (503, "ServingBusy")


def test_every_request_gives_its_memory_back(client: TestClient, bodies: BodyBudget) -> None:
    for _ in range(3):
        assert client.post(URL, files={"file": ("a.png", DATA)}).status_code == 200
        assert client.post(URL, content=in_pieces(), headers=IMAGE).status_code == 200
        assert client.post(URL, content=DATA[:99], headers=IMAGE).status_code == 400
    with bodies.share() as take:
        take(len(DATA) + 1000)


def test_a_file_that_is_fetched_counts_as_one_that_is_sent(
    client: TestClient, bodies: BodyBudget, address: str
) -> None:
    for _ in range(2):
        assert client.post(URL, json={"url": address}).status_code == 200
        with bodies.share() as take:
            take(1001)
            busy = client.post(URL, json={"url": address})
        assert (busy.status_code, busy.json()["error"]) == (503, "ServingBusy")


def test_a_file_of_the_largest_size_may_come_as_a_form_too(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dependencies, "MAX_IMAGE_BYTES", len(DATA))
    assert client.post(URL, content=DATA, headers=IMAGE).status_code == 200
    assert client.post(URL, files={"file": ("a.png", DATA)}).status_code == 200
    larger = client.post(URL, files={"file": ("a.png", DATA + b"x")})
    assert (larger.status_code, larger.json()["error"]) == (413, "TooLarge")
    assert client.post(URL, content=DATA + b"x", headers=IMAGE).status_code == 413
