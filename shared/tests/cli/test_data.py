"""`fovea project` and `fovea ingest` against the real gateway, data service and its worker."""

import io
import os
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from rich.progress import Progress
from typer.testing import CliRunner

from data_service.app.main import create_app as data_service
from data_service.app.worker import build as data_tasks
from data_service.tests.builders import png, write_files
from gateway.app.main import create_app as gateway
from gateway.app.models.schemas import KeyCreate
from gateway.app.services.keys import ApiKeys
from gateway.tests.upstream import serving
from shared.cli.context import _mover
from shared.cli.data import ingest_path
from shared.cli.main import app
from shared.cli.search import image_id_of_name
from shared.client import GatewayClient
from shared.database import Base, Database
from shared.errors import BadRequest
from shared.jobs.bell import Bell, make_celery
from shared.jobs.store import JobStore
from shared.jobs.worker import JobRunner
from shared.models.data import IngestionCreate, ProjectCreate
from shared.models.jobs import JobState, JobView
from shared.settings import Settings

CLASSES = ("[b]", "[/x]", ":cat:")


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[GatewayClient]:
    """A client of a gateway with the project `farm`, which the commands reach too."""
    settings = Settings(
        database_url=f"sqlite:///{tmp_path}/fovea.db",
        object_store_url=f"file:{tmp_path}/objects",
        broker_url="redis://127.0.0.1:1/0",
    )
    database = Database(settings.database_url)
    Base.metadata.create_all(database.engine)
    key = ApiKeys(database, settings.service_key).create(KeyCreate(name="ann", role="admin")).key
    with (
        working(settings, database),
        serving(data_service(settings)) as data_url,
        serving(gateway(settings.model_copy(update={"data_url": data_url}))) as url,
    ):
        monkeypatch.setenv("FOVEA_GATEWAY_URL", url)
        monkeypatch.setenv("FOVEA_API_KEY", key)
        found = GatewayClient(url, key)
        found.create_project(ProjectCreate(name="farm", classes=CLASSES))
        yield found
        found.close()
    database.close()


@contextmanager
def working(settings: Settings, database: Database) -> Iterator[None]:
    """Run the worker of the queue `data` as a thread, which looks for jobs instead of the bell."""
    store = JobStore(database, Bell(make_celery(settings)), settings)
    runner = JobRunner("data", store, settings)
    task = data_tasks(settings)["data.ingest"]
    over = threading.Event()

    def work() -> None:
        while not over.wait(0.1):
            for job in store.list(state="queued"):
                runner.run(job.id, task)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_class_names_that_look_like_markup_are_listed_as_they_are(client: GatewayClient) -> None:
    assert client.project("farm").classes == CLASSES
    done = CliRunner().invoke(app, ["project", "list"])
    assert done.exit_code == 0
    assert "[b], [/x], :cat:" in done.stdout


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two images, a third by a link and a fourth by a name in Latin-1."""
    root = tmp_path / "set"
    root.mkdir()
    (tmp_path / "outside.png").write_bytes(png(9))
    for seed, name in enumerate((b"a.png", b"b.png", b"caf\xe9.png")):
        (root / os.fsdecode(name)).write_bytes(png(seed))
    (root / "[b].png").symlink_to(tmp_path / "outside.png")
    return root


def test_a_folder_is_ingested_without_what_cannot_be_sent(
    client: GatewayClient, folder: Path
) -> None:
    report = ingest_path(client, "farm", folder, IngestionCreate())
    assert report.n_added == 2
    assert [(r.name, r.reason, r.detail) for r in report.rejected] == [
        ("[b].png", "link", "a symbolic link"),
        ("caf?.png", "unreadable", "the name is not UTF-8"),
    ]
    assert {image.name for image in client.iter_images("farm")} == {"a.png", "b.png"}


def test_what_was_left_out_is_printed_by_name(client: GatewayClient, folder: Path) -> None:
    assert client
    (folder / "broken.png").write_bytes(b"no picture")
    done = CliRunner().invoke(app, ["ingest", str(folder)])
    assert (done.exit_code, done.stderr) == (0, "")
    assert "2 images added" in done.stdout
    assert "  not taken: [b].png: link: a symbolic link\n" in done.stdout
    assert "  not taken: caf?.png: unreadable: the name is not UTF-8\n" in done.stdout
    assert "  not taken: broken.png: " in done.stdout


def test_an_ingestion_that_takes_nothing_has_failed(client: GatewayClient, tmp_path: Path) -> None:
    assert client
    broken = write_files(tmp_path / "broken", {"a.png": b"no picture", "b.png": b"nor this"})
    done = CliRunner().invoke(app, ["ingest", str(broken)])
    assert done.exit_code == 1
    assert "  not taken: a.png: " in done.stdout
    assert done.stderr == f"error: nothing of {broken} was taken: all 2 refused\n"


def test_an_empty_source_has_failed_by_its_name(client: GatewayClient, tmp_path: Path) -> None:
    assert client
    (tmp_path / "empty").mkdir()
    done = CliRunner().invoke(app, ["ingest", str(tmp_path / "empty")])
    assert (done.exit_code, done.stderr) == (1, f"error: nothing under {tmp_path}/empty\n")
    (tmp_path / "empty" / "link").symlink_to(tmp_path)
    done = CliRunner().invoke(app, ["ingest", str(tmp_path / "empty")])
    assert done.exit_code == 1
    assert done.stderr == (
        f"error: nothing under {tmp_path}/empty can be sent: all 1 refused, "
        "the first is link: a symbolic link\n"
    )
    (tmp_path / "urls.txt").write_text("\n")
    done = CliRunner().invoke(app, ["ingest", str(tmp_path / "urls.txt")])
    assert done.exit_code == 1
    assert done.stderr.endswith("failed: EmptySource: nothing in urls.txt\n")


def test_names_of_others_give_no_orders_to_the_terminal(
    client: GatewayClient, tmp_path: Path
) -> None:
    assert client
    files = {"../\x1b[31mred\x1b[0m.jpg": png(1), "good.png": png(2)}
    with tarfile.open(tmp_path / "set.tar", "w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    done = CliRunner().invoke(app, ["ingest", str(tmp_path / "set.tar")])
    assert done.exit_code == 0
    assert "  not taken: ../?[31mred?[0m.jpg: unsafe_path: " in done.stdout
    done = CliRunner().invoke(app, ["ingest", "\x1b[2Jset"])
    assert done.stderr == "error: no such file or folder: ?[2Jset\n"


def test_a_job_that_waits_again_says_for_what(capsys: pytest.CaptureFixture[str]) -> None:
    nothing: dict[str, Any] = dict.fromkeys(JobView.model_fields)
    with Progress(disable=True) as progress:
        move = _mover(progress, progress.add_task("ingest"), "ingest")
        steps: tuple[tuple[JobState, str], ...] = (
            ("queued", ""),
            ("running", ""),
            ("queued", "waiting: object store"),
            ("running", "waiting: object store"),
            ("queued", "waiting: object store"),
            ("queued", "waiting: database"),
        )
        for state, message in steps:
            seen = nothing | {"state": state, "progress": 0.0, "message": message}
            move(JobView.model_construct(**seen))
    assert [line.rstrip() for line in capsys.readouterr().out.splitlines()] == [
        "ingest: queued 0%",
        "ingest: running 0%",
        "ingest: queued 0% waiting: object store",
        "ingest: queued 0% waiting: database",
    ]


def test_a_single_file_whose_name_is_not_utf8_is_refused_by_it(
    client: GatewayClient, folder: Path
) -> None:
    with pytest.raises(BadRequest, match=r"the name is not UTF-8: 'caf\?\.png'"):
        ingest_path(client, "farm", folder / os.fsdecode(b"caf\xe9.png"), IngestionCreate())


def test_an_image_is_found_by_its_name_among_many_like_it(
    client: GatewayClient, tmp_path: Path
) -> None:
    names = ["1.png", *(f"{n}1.png" for n in range(1, 14)), "cat.png", "b/cat.png", "dog.png"]
    files = {name: png(n) for n, name in enumerate(names)}
    report = ingest_path(client, "farm", write_files(tmp_path / "many", files), IngestionCreate())
    assert report.n_added == len(names)
    ids = {image.name: image.id for image in client.iter_images("farm")}
    assert image_id_of_name(client, "farm", "1.png") == ids["1.png"]
    assert image_id_of_name(client, "farm", "g.png") == ids["dog.png"]
    several = r"2 stored images .*called 'cat\.png': (cat\.png \([0-9a-f]{64}\)(, )?){2}$"
    with pytest.raises(BadRequest, match=several):
        image_id_of_name(client, "farm", "cat.png")
    with pytest.raises(BadRequest, match=r"0 stored images .*called 'cow': none"):
        image_id_of_name(client, "farm", "cow")


def test_jobs_of_an_unknown_project_are_an_error_that_names_it(client: GatewayClient) -> None:
    assert client
    done = CliRunner().invoke(app, ["jobs", "list", "-p", "nowhere"])
    assert (done.exit_code, done.stderr) == (1, "error: unknown project: 'nowhere'\n")


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["export", "out.zip", "--version", "0"], "unknown dataset version: 0 of project 'farm'"),
        (
            ["train", "--version", "0"],
            "dataset_version: Input should be greater than or equal to 1",
        ),
        (
            ["calibrate", "--model", "0"],
            "model_version: Input should be greater than or equal to 1",
        ),
    ],
)
def test_version_nought_is_not_the_newest(
    client: GatewayClient, arguments: list[str], error: str
) -> None:
    assert client
    done = CliRunner().invoke(app, arguments)
    assert (done.exit_code, done.stderr) == (1, f"error: {error}\n")
