"""The gateway's route table against what the services declare."""

from collections import Counter
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import pytest
from fastapi import FastAPI

import calibration_service.app.main
import data_service.app.main
import gateway.app.main
import inference_service.app.main
import labeling_service.app.main
import monitoring.evidently_service.app.main
import training_service.app.main
from gateway.app.core.routes import SERVICES, Service, service_of
from shared.errors import NotFound
from shared.settings import Settings

CREATE: Mapping[Service, Callable[[Settings], FastAPI]] = {
    "data_service": data_service.app.main.create_app,
    "inference_service": inference_service.app.main.create_app,
    "labeling_service": labeling_service.app.main.create_app,
    "training_service": training_service.app.main.create_app,
    "calibration_service": calibration_service.app.main.create_app,
    "evidently_service": monitoring.evidently_service.app.main.create_app,
}


@cache
def endpoints_of(service: Service) -> tuple[tuple[str, str], ...]:
    return _endpoints(CREATE[service](Settings()))


@pytest.mark.parametrize("service", SERVICES)
def test_every_path_of_a_service_routes_to_it(service: Service) -> None:
    endpoints = endpoints_of(service)
    assert endpoints
    assert {path for _, path in endpoints if service_of(path) != service} == set()


def test_no_endpoint_is_declared_twice() -> None:
    own = _endpoints(gateway.app.main.create_app(Settings()))
    declared = Counter(own)
    for service in SERVICES:
        declared.update(endpoints_of(service))
    assert [endpoint for endpoint, n in declared.items() if n > 1] == []


def test_what_the_gateway_answers_itself_routes_to_no_service() -> None:
    for _, path in _endpoints(gateway.app.main.create_app(Settings())):
        with pytest.raises(NotFound):
            service_of(path)


def _endpoints(app: FastAPI) -> tuple[tuple[str, str], ...]:
    paths: dict[str, dict[str, Any]] = app.openapi()["paths"]
    return tuple((method, path) for path, methods in paths.items() for method in methods)
