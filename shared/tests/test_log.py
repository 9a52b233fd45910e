"""What a log line says of an error, and what it keeps to itself."""

import logging
from collections.abc import Iterator
from typing import Literal

import pytest
import structlog

from shared.log import configure_logging
from shared.settings import Settings

BROKER_PASSWORD = "p" * 40
SERVICE_KEY = "s" * 40


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def crash(settings: Settings, headers: list[tuple[bytes, bytes]]) -> float:
    assert settings
    assert headers
    return 1 / 0


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_a_traceback_tells_no_local_variable(
    log_format: Literal["console", "json"], capsys: pytest.CaptureFixture[str]
) -> None:
    settings = Settings(
        log_format=log_format,
        broker_url=f"redis://:{BROKER_PASSWORD}@127.0.0.1:6379/0",
        service_key=SERVICE_KEY,
    )
    configure_logging(settings, "worker")
    log = structlog.stdlib.get_logger()
    try:
        crash(settings, [(b"x-fovea-service-key", SERVICE_KEY.encode())])
    except ZeroDivisionError as exc:
        log.error("job.failed", exc_info=exc)
    said = capsys.readouterr().err
    assert "job.failed" in said
    assert "ZeroDivisionError: division by zero" in said
    assert BROKER_PASSWORD not in said
    assert SERVICE_KEY not in said
