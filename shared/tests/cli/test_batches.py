"""`fovea batch` against the real gateway, data service and inference service on real sockets."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from typer.testing import CliRunner, Result

import data_service.app.main
import gateway.app.main
import inference_service.app.main
from gateway.tests.upstream import serving
from inference_service.app.services import batch_files
from inference_service.app.wiring import Dependencies, Neighbours, build, build_worker
from inference_service.app.worker import tasks
from inference_service.tests.neighbours import PROJECT, LocalGateway, LocalRegistry
from inference_service.tests.tiny import CLASSES
from shared.cli.main import app
from shared.client import GatewayClient
from shared.database import Base, Database
from shared.errors import BadRequest, Conflict
from shared.jobs.bell import Bell, make_celery
from shared.jobs.store import JobStore
from shared.jobs.worker import JobRunner
from shared.models.data import ProjectCreate
from shared.objects.wiring import object_store
from shared.settings import Settings

ROOT = Path(__file__).resolve().parents[3]


@dataclass
class House:
    """A running house of three services, and a worker that comes when called."""

    url: str
    settings: Settings
    neighbours: Neighbours
    jobs: JobStore
    images: list[str]
    folder: Path

    @property
    def client(self) -> GatewayClient:
        return GatewayClient(self.url, self.settings.service_key)

    def lines(self, *entries: dict[str, str]) -> Path:
        path = self.folder / "night.jsonl"
        path.write_text("\n".join(map(json.dumps, entries)))
        return path

    def good_lines(self) -> Path:
        return self.lines(*({"image_id": image} for image in self.images))

    def work(self) -> None:
        """Do every job that waits."""
        does = tasks(build_worker(self.settings, self.neighbours))
        for job in self.jobs.list(state="queued"):
            JobRunner("inference", self.jobs, self.settings).run(job.id, does[job.kind])

    def fovea(self, *arguments: object) -> Result:
        return CliRunner().invoke(app, ["batch", *map(str, arguments)])

    def said(self, *arguments: object) -> str:
        done = self.fovea(*arguments)
        assert done.exit_code == 0, done.output
        return done.stdout

    def submitted(self, lines: Path) -> str:
        """Submit a file as somebody who does not wait, and return the id that is told."""
        told = self.said("create", lines, "--no-wait")
        return told.split()[1].rstrip(":")


class LosesAnswers:
    """A door whose answers to uploads break off, as many as it is told."""

    def __init__(self, behind: ASGIApp) -> None:
        self.behind = behind
        self.n_to_lose = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        upload = scope["type"] == "http" and (scope["method"], scope["path"]) == (
            "POST",
            "/v1/batches",
        )
        if not upload or not self.n_to_lose:
            await self.behind(scope, receive, send)
            return
        self.n_to_lose -= 1

        async def lose(message: Message) -> None:
            del message

        await self.behind(scope, receive, lose)
        headers = [(b"content-length", b"1000")]
        await send({"type": "http.response.start", "status": 202, "headers": headers})
        await send({"type": "http.response.body", "body": b"{", "more_body": False})


@pytest.fixture
def door() -> LosesAnswers:
    async def nobody(scope: Scope, receive: Receive, send: Send) -> None:
        raise NotImplementedError

    return LosesAnswers(nobody)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> LocalRegistry:
    registry = LocalRegistry(tmp_path_factory.mktemp("registry"))
    registry.add(1)
    registry.production = 1
    return registry


@pytest.fixture
def house(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, door: LosesAnswers, registry: LocalRegistry
) -> Iterator[House]:
    monkeypatch.setattr(batch_files, "PIECE_LINES", 4)
    settings = Settings(
        state_dir=tmp_path / "state",
        database_url=f"sqlite:///{tmp_path}/fovea.db",
        object_store_url=f"file:{tmp_path}/objects",
        vector_store_url=f"lancedb:{tmp_path}/vectors",
        broker_url="redis://127.0.0.1:1/0",
        threads=1,
    )
    database = Database(settings.database_url)
    Base.metadata.create_all(database.engine)
    images = LocalGateway(object_store(settings))
    ids = [images.add(n).id for n in range(6)]
    neighbours = Neighbours(images, registry)
    jobs = JobStore(database, Bell(make_celery(settings)), settings)

    def build_here(settings: Settings) -> Dependencies:
        return build(settings, neighbours)

    with (
        serving(data_service.app.main.create_app(settings)) as data_url,
        serving(inference_service.app.main.create_app(settings, build_here)) as inference_url,
    ):
        urls = {"data_url": data_url, "inference_url": inference_url}
        door.behind = gateway.app.main.create_app(settings.model_copy(update=urls))
        with serving(door) as url:
            monkeypatch.setenv("FOVEA_GATEWAY_URL", url)
            monkeypatch.setenv("FOVEA_API_KEY", settings.service_key.get_secret_value())
            monkeypatch.chdir(tmp_path)
            house = House(url, settings, neighbours, jobs, ids, tmp_path / "given")
            house.folder.mkdir()
            house.client.create_project(ProjectCreate(name=PROJECT, classes=CLASSES))
            yield house
    database.close()


def test_a_batch_from_its_lines_to_its_end(house: House) -> None:
    good = [{"image_id": image} for image in house.images]
    lines = house.lines(*good, {"image_id": "nope"}, {"key": "imports/none.png"}, *good[:1])
    batch_id = house.submitted(lines)
    waiting = house.said("status", batch_id)
    assert waiting.startswith(
        f"batch {batch_id}: queued\nproject {PROJECT}, model v1, night.jsonl\n"
    )
    assert "0 of 9 lines answered, 0 failed\n" in waiting
    assert "expires 20" in waiting
    assert batch_id in house.said("list")
    house.work()
    ended = house.said("status", batch_id)
    assert ended.startswith(f"batch {batch_id}: completed\n")
    assert "kept until 20" in ended
    followed = house.said("follow", batch_id, "--folder", "fetched")
    assert followed.endswith(
        "completed: 7 of 9 lines answered, 2 failed\n"
        "failed: 1 NotFound, 1 ObjectNotFound\n"
        "wrote fetched/night.results.jsonl\n"
        "wrote fetched/night.errors.jsonl\n"
    )
    results = Path("fetched/night.results.jsonl").read_text().splitlines()
    assert [json.loads(line)["line"] for line in results] == [1, 2, 3, 4, 5, 6, 9]
    assert house.said("delete", batch_id) == f"batch {batch_id}: deleted\n"
    gone = house.fovea("status", batch_id)
    assert gone.exit_code == 1
    assert gone.stderr.startswith(f"error: batch '{batch_id}' was deleted on 20")
    house.work()
    store = object_store(house.settings)
    assert list(store.list(f"projects/{PROJECT}/batches/")) == []
    assert batch_id not in house.said("list")


def test_ctrl_c_stops_following_and_not_the_batch(house: House) -> None:
    lines = house.good_lines()
    create = ("batch", "create", str(lines))
    following = subprocess.Popen(
        # What runs in the background ignores it, and so does what it starts.
        ["env", "--default-signal=INT", sys.executable, "-m", "shared.cli.main", *create],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert following.stdout is not None
    batch_id = following.stdout.readline().split()[1].rstrip(":")
    assert following.stdout.readline().startswith("batch: queued 0%")
    following.send_signal(signal.SIGINT)
    _, error = following.communicate(timeout=30)
    again = f"fovea batch follow {batch_id} --folder {lines.parent}"
    assert (following.returncode, error) == (
        130,
        f"no longer followed, but not stopped either; follow it again: {again}\n",
    )
    assert house.client.batch(batch_id).state == "queued"
    house.work()
    house.said(*again.split()[2:])
    assert len((lines.parent / "night.results.jsonl").read_text().splitlines()) == 6
    assert (lines.parent / "night.errors.jsonl").read_text() == ""


def test_a_batch_is_cancelled_looked_at_and_resumed(house: House) -> None:
    batch_id = house.submitted(house.good_lines())
    assert house.said("cancel", batch_id) == (
        f"batch {batch_id}: cancelled; to go on: fovea batch resume {batch_id}\n"
    )
    stopped = house.fovea("follow", batch_id)
    assert stopped.exit_code == 1
    assert stopped.stderr == (
        f"error: batch {batch_id} cancelled (0 of 6 lines answered, 0 failed); "
        f"fovea batch resume {batch_id} goes on with it, "
        f"fovea batch results {batch_id} fetches what is answered\n"
    )
    assert "cancelled: 0 of 6 lines answered, 0 failed\n" in house.said("results", batch_id)
    again = house.fovea("cancel", batch_id)
    assert (again.exit_code, again.stderr) == (
        1,
        f"error: batch '{batch_id}' is already cancelled\n",
    )
    assert house.said("resume", batch_id) == (
        f"batch {batch_id}: queued; follow it: fovea batch follow {batch_id}\n"
    )
    refused = house.fovea("delete", batch_id)
    assert (refused.exit_code, refused.stderr) == (
        1,
        f"error: batch '{batch_id}' is queued: it can be deleted once it is over\n",
    )
    house.work()
    assert "completed: 6 of 6 lines answered, 0 failed\n" in house.said("results", batch_id)
    assert len(Path("night.results.jsonl").read_text().splitlines()) == 6


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("../../up.jsonl", "up"),
        ("..", ".."),
        ("", None),
        ("a\nb", None),
        ("a\0b", None),
        ("ü" * 150, None),
    ],
)
def test_files_are_called_as_the_caller_did_where_one_can_be(
    house: House, name: str, stem: str | None
) -> None:
    answer = httpx2.post(
        f"{house.url}/v1/batches",
        params={"project": PROJECT, "name": name},
        headers={"X-API-Key": house.settings.service_key.get_secret_value()},
        content=house.good_lines().read_bytes(),
        trust_env=False,
    )
    batch_id = answer.json()["id"]
    house.said("results", batch_id, "--folder", "out")
    written = {path.name for path in Path("out").iterdir()}
    assert written == {f"{stem or batch_id}.{file}.jsonl" for file in ("results", "errors")}


def test_an_upload_whose_answer_was_lost_makes_no_second_batch(
    house: House, door: LosesAnswers
) -> None:
    door.n_to_lose = 2
    batch_id = house.submitted(house.good_lines())
    assert door.n_to_lose == 0
    assert [batch.id for batch in house.client.batches()] == [batch_id]
    assert len(house.jobs.list()) == 1


def test_a_key_makes_a_repeated_command_the_same_batch(house: House) -> None:
    lines, client = house.good_lines(), house.client
    first = house.said("create", lines, "--key", "2026-11-27", "--no-wait")
    assert house.said("create", lines, "--key", "2026-11-27", "--no-wait") == first
    other = house.fovea("create", lines, "--key", "2026-11-27", "--model", "1", "--no-wait")
    assert other.exit_code == 1
    assert other.stderr.startswith("error: Idempotency-Key '2026-11-27' made batch '")
    assert house.submitted(lines) not in first
    with pytest.raises(Conflict, match="Idempotency-Key"):
        client.create_batch(PROJECT, lines, idempotency_key="2026-11-27", expires_in_h=1)
    for key in ("ü", "a\nb"):
        with pytest.raises(BadRequest, match="not printable ASCII"):
            client.create_batch(PROJECT, lines, idempotency_key=key)


@pytest.mark.parametrize("command", ["status", "follow", "results", "cancel", "resume", "delete"])
def test_an_unknown_batch_is_named(house: House, command: str) -> None:
    done = house.fovea(command, "nope")
    assert (done.exit_code, done.stderr) == (1, "error: unknown batch: 'nope'\n")
    assert house.fovea("list", "--project", "nope").stderr == "error: unknown project: 'nope'\n"


def test_a_file_that_is_not_there_is_named(house: House) -> None:
    done = house.fovea("create", house.folder / "none.jsonl")
    assert (done.exit_code, done.stderr) == (
        1,
        f"error: no such file: {house.folder}/none.jsonl\n",
    )
