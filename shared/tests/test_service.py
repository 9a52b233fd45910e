import re
import socket
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest
from fastapi import APIRouter, FastAPI, Request
from fastapi.testclient import TestClient
from pydantic import BaseModel

from gateway.tests.upstream import serving
from shared.errors import BackendUnavailable, Conflict, NotFound, RateLimited
from shared.service import INTERNAL_KEY, Check, create_service
from shared.settings import Settings

KEY = {"X-Fovea-Service-Key": "insecure-default"}
router = APIRouter()


class Body(BaseModel):
    n: int


@router.get("/missing")
def missing() -> None:
    message = "unknown round: 'r7'"
    raise NotFound(message)


@router.get("/conflict")
def conflict() -> None:
    raise Conflict("taken")


@router.get("/limited")
def limited() -> None:
    raise RateLimited("slow down")


@router.get("/bug")
def bug() -> float:
    return 1 / 0


@router.post("/body")
def body(given: Body) -> Body:
    return given


@router.post("/file")
async def file(request: Request) -> int:
    return len(await request.body())


@router.get("/v1/projects/{project}/rounds")
def rounds(project: str) -> str:
    return project


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[Mapping[str, Any]]:
    yield {"deps": "built"}


def down() -> None:
    message = "broker (redis://nowhere): refused"
    raise BackendUnavailable(message)


def service(checks: Mapping[str, Check] | None = None) -> FastAPI:
    return create_service(
        "test_service",
        settings=Settings(),
        routers=[router],
        lifespan=lifespan,
        checks=lambda state: checks or {},
    )


def client(checks: Mapping[str, Check] | None = None) -> TestClient:
    return TestClient(service(checks))


@pytest.mark.parametrize(
    ("path", "status", "name", "detail"),
    [
        ("/missing", 404, "NotFound", "unknown round: 'r7'"),
        ("/conflict", 409, "Conflict", "taken"),
        ("/nowhere", 404, "NotFound", "Not Found: GET /nowhere"),
        ("/bug", 500, "InternalError", "an unexpected error; the log has it under this request id"),
    ],
)
def test_every_error_has_one_shape(path: str, status: int, name: str, detail: str) -> None:
    with client() as http:
        answer = http.get(path, headers={**KEY, "X-Request-ID": "r1"})
    assert answer.status_code == status
    assert answer.json() == {"error": name, "detail": detail, "request_id": "r1"}
    assert answer.headers["X-Request-ID"] == "r1"


def test_a_bad_payload_names_the_field() -> None:
    with client() as http:
        answer = http.post("/body", json={"n": "x"}, headers=KEY)
    assert answer.status_code == 422
    assert answer.json()["error"] == "ValidationFailed"
    assert answer.json()["detail"].startswith("body.n: Input should be a valid integer")


@pytest.mark.parametrize(
    ("path", "name"), [("farm%3Fx", "farm?x"), ("farm%00", "farm\0"), ("My%20Farm", "My Farm")]
)
def test_a_name_that_no_project_can_have_is_404_before_a_route_is_asked(
    path: str, name: str
) -> None:
    with client() as http:
        assert http.get("/v1/projects/farm/rounds", headers=KEY).json() == "farm"
        answer = http.get(f"/v1/projects/{path}/rounds", headers=KEY)
    assert (answer.status_code, answer.json()["detail"]) == (404, f"unknown project: {name!r}")


def test_a_limited_caller_is_told_when_to_come_back() -> None:
    with client() as http:
        answer = http.get("/limited", headers=KEY)
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "1")


def test_without_the_service_key_nothing_is_answered_but_health() -> None:
    with client() as http:
        assert http.get("/missing").status_code == 401
        assert http.get("/missing", headers={"X-Fovea-Service-Key": "wrong"}).status_code == 401
        assert http.get("/healthz").json() == {"status": "ok"}


def test_readiness_names_the_back_end_that_is_down() -> None:
    with client({"database": lambda: None, "broker": down}) as http:
        answer = http.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["checks"] == {
        "database": "ok",
        "broker": "BackendUnavailable: broker (redis://nowhere): refused",
    }


def test_readiness_is_ok_when_all_answer() -> None:
    with client({"database": lambda: None}) as http:
        assert http.get("/readyz").json() == {"status": "ok", "checks": {"database": "ok"}}


def test_a_request_gets_an_id_and_keeps_the_one_it_came_with() -> None:
    with client() as http:
        assert len(http.get("/healthz").headers["X-Request-ID"]) == 32
        answer = http.get("/healthz", headers={"X-Request-ID": "mine"})
    assert answer.headers["X-Request-ID"] == "mine"


def test_metrics_count_requests() -> None:
    with client() as http:
        http.get("/conflict", headers=KEY)
        metrics = http.get("/metrics").text
    assert 'http_requests_total{handler="/conflict",method="GET",status="4xx"} 1.0' in metrics


def test_a_caller_who_hangs_up_is_no_failure_of_the_service(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with serving(service()) as url:
        address = httpx2.URL(url)
        with socket.create_connection((address.host, address.port or 0)) as caller:
            head = f"POST /file HTTP/1.1\r\nHost: x\r\n{INTERNAL_KEY}: insecure-default\r\n"
            caller.sendall(f"{head}Content-Length: 10\r\n\r\nhalf".encode())
        deadline = time.monotonic() + 10
        counted: list[str] = []
        while not counted and time.monotonic() < deadline:
            metrics = httpx2.get(f"{url}/metrics").text
            counted = re.findall(r'http_requests_total{handler="/file".*', metrics)
            time.sleep(0.02)
    assert counted == ['http_requests_total{handler="/file",method="POST",status="4xx"} 1.0']
    logged = capsys.readouterr().err
    assert "request.hung_up" in logged
    assert "Traceback" not in logged
