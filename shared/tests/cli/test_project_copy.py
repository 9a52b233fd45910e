"""`fovea project copy` against the real data service on a real socket."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.types import Receive, Scope, Send
from typer.testing import CliRunner

from data_service.app.main import create_app
from gateway.tests.upstream import serving
from shared.cli.main import app
from shared.client import GatewayClient
from shared.database import Base, Database
from shared.models.data import ProjectCreate
from shared.service import INTERNAL_KEY
from shared.settings import Settings

CLASSES = ("zebra", "ant")


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Address of a data service with one project, behind a door that lets everybody in."""
    settings = Settings(
        database_url=f"sqlite:///{tmp_path}/fovea.db",
        object_store_url=f"file:{tmp_path}/objects",
        broker_url="redis://127.0.0.1:1/0",
    )
    database = Database(settings.database_url)
    Base.metadata.create_all(database.engine)
    database.close()
    service = create_app(settings)
    key = (INTERNAL_KEY.lower().encode(), settings.service_key.get_secret_value().encode())

    async def door(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope = dict(scope) | {"headers": [*scope["headers"], key]}
        await service(scope, receive, send)

    with serving(door) as address:
        monkeypatch.setenv("FOVEA_GATEWAY_URL", address)
        monkeypatch.setenv("FOVEA_API_KEY", "k" * 32)
        GatewayClient(address, "key").create_project(
            ProjectCreate(name="farm", classes=CLASSES, seed=3)
        )
        yield address


def test_a_project_is_copied_and_said_so(url: str) -> None:
    done = CliRunner().invoke(app, ["project", "copy", "farm", "ranch", "--hide-labels"])
    assert (done.exit_code, done.stdout) == (
        0,
        "created ranch: 0 images, 0 labelled to train on\n",
    )
    ranch = GatewayClient(url, "key").project("ranch")
    assert (ranch.classes, ranch.seed) == (CLASSES, 3)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["nope", "ranch"], "unknown project: 'nope'"),
        (["farm", "farm"], "project exists already: 'farm'"),
        (["farm", "ranch", "--version", "4"], "unknown dataset version: 4 of project 'farm'"),
    ],
)
def test_what_cannot_be_copied_is_named(url: str, arguments: list[str], error: str) -> None:
    assert url
    done = CliRunner().invoke(app, ["project", "copy", *arguments])
    assert (done.exit_code, done.stderr) == (1, f"error: {error}\n")
