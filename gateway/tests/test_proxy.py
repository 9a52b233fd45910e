"""The proxy, between a real client and a real service."""

import json
import re
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import suppress
from http.client import HTTPConnection

import httpx2
import pytest

from gateway.app.api import proxy
from gateway.app.core.routes import max_body_bytes, service_urls
from gateway.app.services.proxy import LIMITS
from gateway.tests.conftest import Gateway

MIB = 1 << 20


def test_a_request_reaches_its_service_as_it_came(gateway: Gateway) -> None:
    with gateway.client() as client:
        answer = client.get("/v1/projects/p/images/a%20b%2Fc", params={"split": "val", "q": "ü"})
    assert answer.status_code == 200
    assert answer.json()["method"] == "GET"
    assert answer.json()["target"] == "/v1/projects/p/images/a%20b%2Fc?split=val&q=%C3%BC"


def test_keys_and_forged_headers_stay_at_the_door(gateway: Gateway) -> None:
    key = gateway.key("admin", "root")
    with gateway.client("") as client:
        client.get(
            "/v1/projects/p",
            headers={
                "X-API-Key": key,
                "X-Fovea-Principal": "service",
                "X-Fovea-Service-Key": "guess",
                "X-Fovea-Other": "1",
                "X-Request-ID": "r-1",
                "Connection": "keep-alive, X-Hop",
                "X-Hop": "1",
            },
        )
    seen = gateway.data.headers
    ours = sorted((n, v) for n, v in seen if n.startswith("x-"))
    assert ours == [
        ("x-fovea-principal", "root"),
        ("x-fovea-service-key", "the-service-key"),
        ("x-request-id", "r-1"),
    ]
    assert not {"authorization", "x-hop"} & {name for name, _ in seen}


def test_an_answer_keeps_its_own_headers_and_gets_one_request_id(gateway: Gateway) -> None:
    with gateway.client() as client:
        answer = client.post("/v1/projects/p/uploads", content=b"x", headers={"X-Request-ID": "r"})
    assert answer.status_code == 201
    assert answer.headers["x-own"] == "o"
    assert "x-fovea-secret" not in answer.headers
    assert answer.headers.get_list("x-request-id") == ["r"]
    assert len(answer.headers.get_list("date")) == 1


def test_an_upload_of_50_mib_streams_through_bounded_memory(gateway: Gateway) -> None:
    def pieces() -> Iterator[bytes]:
        for _ in range(50):
            yield bytes(MIB)

    with gateway.client() as client:
        tracemalloc.start()
        answer = client.post("/v1/projects/p/size", content=pieces())
        assert answer.status_code == 404
        answer = client.post("/v1/projects/p/uploads/size", content=pieces())
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert answer.json() == {"n_bytes": 50 * MIB}
    assert peak < 25 * MIB


def test_an_answer_of_50_mib_streams_through_bounded_memory(gateway: Gateway) -> None:
    n_bytes = 0
    with gateway.client() as client:
        tracemalloc.start()
        with client.stream("GET", "/v1/files/big", headers={"X-MiB": "50"}) as answer:
            for piece in answer.iter_raw():
                n_bytes += len(piece)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert n_bytes == 50 * MIB
    assert peak < 25 * MIB


def test_a_body_that_is_announced_over_the_limit_is_413_unread(gateway: Gateway) -> None:
    caller = HTTPConnection(httpx2.URL(gateway.url).netloc.decode(), timeout=10)
    caller.putrequest("POST", "/v1/projects/p/uploads/size")
    caller.putheader("Authorization", f"Bearer {gateway.key('admin')}")
    caller.putheader("Content-Length", str(65 * MIB))
    caller.endheaders()
    answer = caller.getresponse()
    body = json.loads(answer.read())
    caller.close()
    assert (answer.status, body["error"]) == (413, "TooLarge")
    assert body["detail"] == "a body of 68157440 bytes is over the limit of 67108864 bytes"
    assert gateway.data.n_requests == 0


def test_a_body_that_grows_over_the_limit_is_413(gateway: Gateway) -> None:
    with gateway.client() as client:
        pieces = (bytes(MIB) for _ in range(65))
        answer = client.post("/v1/projects/p/uploads/size", content=pieces)
    assert (answer.status_code, answer.json()["error"]) == (413, "TooLarge")
    assert answer.json()["detail"] == "the body is over the limit of 67108864 bytes"


def test_a_body_of_json_has_a_limit_of_its_own(gateway: Gateway) -> None:
    def pieces() -> Iterator[bytes]:
        return (bytes(MIB) for _ in range(33))

    with gateway.client(role="annotator") as client:
        announced = client.put("/v1/projects/p/tasks/t/answer", content=bytes(33 * MIB))
    with gateway.client() as client:
        grown = client.post("/v1/projects/p/images/size", content=pieces())
    with gateway.client("the-service-key") as client:
        ours = client.post("/v1/projects/p/images/size", content=pieces())
    assert (announced.status_code, announced.json()["error"]) == (413, "TooLarge")
    expected = "a body of 34603008 bytes is over the limit of 33554432 bytes"
    assert announced.json()["detail"] == expected
    assert (grown.status_code, grown.json()["error"]) == (413, "TooLarge")
    assert ours.json() == {"n_bytes": 33 * MIB}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/v1/projects/p/uploads", 64 * MIB),
        ("/v1/projects/p/predict", 64 * MIB),
        ("/v1/projects/p/models/imports", 64 * MIB),
        ("/v1/batches", 64 * MIB),
        ("/v1/batches/b/cancel", 32 * MIB),
        ("/v1/projects/uploads/rounds", 32 * MIB),
        ("/v1/projects", 32 * MIB),
    ],
)
def test_only_files_may_be_as_large_as_an_upload(path: str, expected: int) -> None:
    assert max_body_bytes(path, 64 * MIB) == expected
    assert max_body_bytes(path, MIB) == MIB


def test_an_answer_before_the_end_of_the_body_gets_through(gateway: Gateway) -> None:
    with gateway.client() as client:
        answer = client.post("/v1/projects/p/uploads/early", content=bytes(MIB))
    assert (answer.status_code, answer.json()) == (422, {"early": True})


def test_events_arrive_while_the_stream_is_open_and_a_hang_up_reaches_the_service(
    gateway: Gateway,
) -> None:
    with gateway.client() as client, client.stream("GET", "/v1/projects/p/images/events") as answer:
        assert answer.headers["content-type"] == "text/event-stream"
        pieces = answer.iter_raw()
        assert next(pieces) == b"data: first\n\n"
        assert not gateway.data.hung_up
    deadline = time.monotonic() + 5
    while not gateway.data.hung_up and time.monotonic() < deadline:
        time.sleep(0.02)
    assert gateway.data.hung_up


def test_a_caller_who_hangs_up_while_sending_is_no_failure_of_ours(gateway: Gateway) -> None:
    caller = HTTPConnection(httpx2.URL(gateway.url).netloc.decode(), timeout=10)
    caller.putrequest("POST", "/v1/projects/p/uploads/size")
    caller.putheader("Authorization", f"Bearer {gateway.key('admin')}")
    caller.putheader("Content-Length", "10")
    caller.endheaders(b"half")
    while gateway.data.n_requests == 0:
        time.sleep(0.02)
    caller.close()
    deadline = time.monotonic() + 10
    counted: list[str] = []
    with gateway.client() as client:
        while not counted and time.monotonic() < deadline:
            counted = re.findall('http_requests_total.*"POST".*', client.get("/metrics").text)
            time.sleep(0.02)
    assert len(counted) == 1
    assert counted[0].endswith('status="4xx"} 1.0')


@pytest.mark.parametrize(("pause_s", "n_bytes", "status"), [(0.2, 1, 408), (0.2, 40, 200)])
def test_a_body_that_stalls_or_drips_gives_its_place_back(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, pause_s: float, n_bytes: int, status: int
) -> None:
    monkeypatch.setattr(proxy, "BODY_WAIT_S", 0.5)
    monkeypatch.setattr(proxy, "SLOWEST_BYTES_PER_S", 100)
    caller = HTTPConnection(httpx2.URL(gateway.url).netloc.decode(), timeout=10)
    caller.putrequest("POST", "/v1/projects/p/uploads/size")
    caller.putheader("Authorization", f"Bearer {gateway.key('admin')}")
    caller.putheader("Content-Length", str(8 * n_bytes))
    caller.endheaders()
    for _ in range(8):
        time.sleep(pause_s)
        with suppress(ConnectionError):
            caller.send(bytes(n_bytes))
    answer = caller.getresponse()
    assert answer.status == status
    if status == 408:
        assert json.loads(answer.read())["error"] == "RequestTimeout"
        assert answer.headers["Connection"] == "close"
    caller.close()


def test_an_answer_that_breaks_off_is_seen_to_break_off(gateway: Gateway) -> None:
    with gateway.client() as client, pytest.raises(httpx2.RemoteProtocolError):
        client.get("/v1/projects/p/images/broken")


def test_a_service_that_is_down_is_503_with_its_name(gateway: Gateway) -> None:
    with gateway.client() as client:
        answer = client.get("/v1/projects/p/rounds")
        sent = client.post("/v1/projects/p/trainings", json={"dataset_version": 1})
    assert (answer.status_code, answer.json()["error"]) == (503, "BackendUnavailable")
    assert re.match(
        r"labeling_service \(http://127.0.0.1:1\): ConnectError", answer.json()["detail"]
    )
    assert sent.status_code == 503
    assert sent.json()["detail"].startswith("training_service (http://127.0.0.1:1): ConnectError")
    assert answer.headers["Retry-After"] == "5"


def test_an_unknown_path_is_404_with_its_name(gateway: Gateway) -> None:
    with gateway.client() as client:
        answer = client.get("/v1/projects/p/imagez/1")
        outside = client.get("/nothing")
    assert (answer.status_code, answer.json()["error"]) == (404, "NotFound")
    assert answer.json()["detail"] == "unknown path: '/v1/projects/p/imagez/1'"
    assert outside.status_code == 404
    assert gateway.data.n_requests == 0


@pytest.mark.parametrize("path", ["/v1/files/%2e%2e/projects", "/v1/projects/%2e%2e/images"])
def test_a_path_that_climbs_is_refused(gateway: Gateway, path: str) -> None:
    with gateway.client() as client:
        answer = client.get(httpx2.URL(gateway.url).copy_with(raw_path=path.encode()))
    assert (answer.status_code, answer.json()["error"]) == (400, "BadRequest")
    assert gateway.data.n_requests == 0


def test_idle_connections_are_dropped_before_the_services_close_them(gateway: Gateway) -> None:
    assert LIMITS.keepalive_expiry == 2.0
    assert len(service_urls(gateway.settings)) == 6
