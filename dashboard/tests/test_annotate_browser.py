"""A person with a mouse in a real browser: what is drawn arrives once, where it was drawn.

Gateway, data service and labelling service are the real ones, each on a socket of its own.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect
from sqlalchemy import select, update

from dashboard.screenshots import VIEWPORT_WH, browser, settle
from dashboard.tests.mouse import DRAWN, canvas_of, draw
from dashboard.tests.neighbour import serve
from dashboard.tests.running import free_port, running_dashboard
from dashboard.tests.world import BOXES, CLASSES, NAME, detections, picture
from data_service.app.main import create_app as create_data
from data_service.app.services.images import ImageQuery, list_images
from data_service.app.services.ingestion import Ingestion, ingest
from data_service.app.services.projects import create_project
from data_service.app.wiring import build as build_data
from gateway.app.main import create_app as create_gateway
from gateway.app.models.schemas import KeyCreate
from gateway.app.models.tables import AuditRow
from gateway.app.services.audit import FLUSH_EVERY_S
from gateway.app.services.keys import ApiKeys
from labeling_service.app.core.labelling.builtin import BuiltinLabelling
from labeling_service.app.core.labelling.port import LabellingRound, NewTask
from labeling_service.app.main import create_app as create_labeling
from labeling_service.app.models.tables import RoundRow, TaskRow
from shared.client import GatewayClient
from shared.database import Base, Database, utcnow
from shared.models.data import IngestionCreate, ProjectCreate, SplitFractions
from shared.models.rounds import RoundPlan, TaskView
from shared.models.strategies import RandomStrategy
from shared.settings import Settings

ROUND = "round-1"
N_TASKS = 8


@dataclass(frozen=True)
class Stand:
    """The services behind a running dashboard."""

    database: Database
    client: GatewayClient
    dashboard: str
    browser: Browser

    def tasks_of(self, annotator: str) -> list[TaskView]:
        """Return what an annotator has, or had, at hand."""
        return [t for t in self.client.tasks(NAME, ROUND) if t.annotator == annotator]

    def n_saves(self, task_id: str) -> int:
        """Return how often the gateway was asked to save an answer to a task."""
        path = f"/v1/projects/{NAME}/tasks/{task_id}/answer"
        with self.database.transaction() as session:
            return len(session.scalars(select(AuditRow).where(AuditRow.path == path)).all())

    def hand_over(self, task_id: str, annotator: str) -> None:
        """Lease a task to somebody."""
        lease = {"annotator": annotator, "lease_expires_at": utcnow() + timedelta(minutes=5)}
        with self.database.transaction() as session:
            session.execute(update(TaskRow).where(TaskRow.id == task_id).values(lease))

    def open(self, annotator: str) -> Page:
        """Return the Annotate page as an annotator sees it."""
        page = self.browser.new_page()
        page.set_viewport_size({"width": VIEWPORT_WH[0], "height": VIEWPORT_WH[1]})
        page.goto(f"{self.dashboard}/annotate?annotator={annotator}")
        settle(page)
        return page


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    """Start everything once; each test is another annotator."""
    folder = tmp_path_factory.mktemp("stand")
    with ExitStack() as stack:
        ports = {name: free_port() for name in ("gateway", "data", "labeling")}
        settings = Settings(
            state_dir=folder,
            database_url=f"sqlite:///{folder / 'fovea.db'}",
            object_store_url=f"file:{folder / 'objects'}",
            ingest_roots=str(folder),
            gateway_url=f"http://127.0.0.1:{ports['gateway']}",
            labeling_url=f"http://127.0.0.1:{ports['labeling']}",
            data_url=f"http://127.0.0.1:{ports['data']}",
        )
        database = Database(settings.database_url)
        stack.callback(database.close)
        Base.metadata.create_all(database.engine)
        put_images(settings, database, folder / "pictures")
        open_round(database)
        keys = ApiKeys(database, settings.service_key)
        key = keys.create(KeyCreate(name="annotators", role="annotator")).key
        stack.enter_context(serve(create_data(settings), ports["data"]))
        stack.enter_context(serve(create_labeling(settings), ports["labeling"]))
        gateway = stack.enter_context(serve(create_gateway(settings), ports["gateway"]))
        client = GatewayClient(gateway, key)
        stack.callback(client.close)
        dashboard = stack.enter_context(running_dashboard(gateway, key, folder))
        yield Stand(database, client, dashboard, stack.enter_context(browser()))


def put_images(settings: Settings, database: Database, folder: Path) -> None:
    """Ingest the pictures of the round."""
    folder.mkdir()
    for i in range(N_TASKS):
        (folder / f"{i}.jpg").write_bytes(picture(str(i)))
    splits = SplitFractions(val=0, gate=0, test=0)
    create_project(database, ProjectCreate(name=NAME, classes=CLASSES, splits=splits))
    ingestion = Ingestion("job", NAME, IngestionCreate(path=str(folder)))
    parts = build_data(settings)
    ingest(parts.ingestion, ingestion, lambda *_: None)
    parts.close()


def open_round(database: Database) -> None:
    """Put a round into the database that waits for its labels."""
    images = list_images(database, NAME, ImageQuery()).images
    request = RoundPlan(strategy=RandomStrategy(), budget=N_TASKS)
    with database.transaction() as session:
        session.add(
            RoundRow(
                id=ROUND,
                project=NAME,
                index=1,
                purpose="train",
                state="labelling",
                step="label",
                request=request.model_dump(mode="json"),
                classes=list(CLASSES),
            )
        )
    BuiltinLabelling(database).open_round(
        LabellingRound(ROUND, NAME, CLASSES),
        [
            NewTask(image.id, rank, "drawn at random", detections())
            for rank, image in enumerate(images, 1)
        ],
    )


def complete(page: Page) -> None:
    draw(page).get_by_role("button", name="Complete").click()


def test_a_box_drawn_by_mouse_arrives_once_where_it_was_drawn(stand: Stand) -> None:
    page = stand.open("ada")
    [task] = stand.tasks_of("ada")
    _, place = canvas_of(page)
    frame = draw(page)
    expect(page.get_by_test_id("stBaseButton-primary")).to_be_disabled()
    frame.get_by_role("button", name="Complete").click()

    page.get_by_role("button", name="Save 3 boxes").dblclick()
    expect(page.get_by_text("Saved: 3 boxes")).to_be_visible()
    settle(page)

    page.wait_for_timeout(2 * 1000 * FLUSH_EVERY_S)

    saved, following = stand.tasks_of("ada")
    assert (saved.id, saved.state, following.state) == (task.id, "labelled", "leased")
    assert stand.n_saves(task.id) == 1
    assert stand.n_saves(following.id) == 0
    assert saved.annotations is not None
    assert [a.class_id for a in saved.annotations] == [1, 0, 0]
    assert [a.source for a in saved.annotations] == ["human"] * 3
    assert [a.xyxy for a in saved.annotations[:2]] == list(BOXES)
    drawn = saved.annotations[2].xyxy
    assert drawn[::2] == pytest.approx(DRAWN[::2], abs=1 / place["width"])
    assert drawn[1::2] == pytest.approx(DRAWN[1::2], abs=1 / place["height"])


def test_a_failed_save_keeps_the_boxes_and_says_why(stand: Stand) -> None:
    page = stand.open("bob")
    [task] = stand.tasks_of("bob")
    complete(page)
    stand.hand_over(task.id, "eve")
    save = page.get_by_role("button", name="Save 3 boxes")
    save.click()
    expect(page.get_by_text(f"Not saved: task '{task.id}' is kept for 'eve' now")).to_be_visible()
    assert stand.client.task(NAME, task.id).annotations is None

    stand.hand_over(task.id, "bob")
    save.click()
    expect(page.get_by_text("Saved: 3 boxes")).to_be_visible()
    saved = stand.client.task(NAME, task.id)
    assert saved.annotations is not None
    assert len(saved.annotations) == 3


def test_complete_alone_saves_when_asked_to_and_the_way_back_shows_what_was_saved(
    stand: Stand,
) -> None:
    page = stand.open("cy")
    [task] = stand.tasks_of("cy")
    page.get_by_text("Save on Complete").click()
    settle(page)
    draw(page).get_by_role("button", name="Complete").dblclick()
    expect(page.get_by_text("Saved: 3 boxes")).to_be_visible()
    settle(page)
    states = [t.state for t in stand.tasks_of("cy")]
    assert states == ["labelled", "leased"]

    page.get_by_role("button", name="Back").click()
    expect(page.get_by_role("button", name="Save 3 boxes")).to_be_visible()
    page.get_by_role("button", name="Skip").click()
    expect(page.get_by_text("Skipped")).to_be_visible()
    assert stand.client.task(NAME, task.id).state == "skipped"
