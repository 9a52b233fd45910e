"""A person with a mouse answers one task of a round of the whole stack: it arrives once."""

import time
from pathlib import Path

import httpx2
import pytest
from playwright.sync_api import expect

from dashboard.screenshots import VIEWPORT_WH, browser, settle
from dashboard.tests.mouse import DRAWN, canvas_of, draw
from gateway.app.services.audit import FLUSH_EVERY_S
from shared.client import GatewayClient
from shared.local.stack import EmbeddedStack
from shared.models.rounds import TaskView
from shared.tests.stack.rounds import finish_round, make_project, start_round, wait_labelling

pytestmark = [pytest.mark.stack, pytest.mark.timeout(900)]
PROJECT = "mouse"
ANNOTATOR = "ada"
AUDIT_S = 30.0


def test_what_a_mouse_draws_is_in_the_dataset_version_once(
    stack: EmbeddedStack, client: GatewayClient, digits: Path
) -> None:
    make_project(client, PROJECT, digits)
    started = wait_labelling(client, start_round(client, PROJECT, "random", budget=1))
    drawn_on = answer_by_mouse(stack, client)
    assert n_saves(stack, drawn_on.id) == 1

    found = finish_round(client, started)
    assert (found.state, found.error) == ("done", None)
    assert found.dataset_version is not None
    items = client.manifest(PROJECT, found.dataset_version).items
    [labelled] = [i for i in items if i.split == "train"]
    assert labelled.image_id == drawn_on.image_id
    [box] = labelled.annotations
    assert box.source == "human"
    assert box.xyxy == pytest.approx(DRAWN, abs=0.01)


def answer_by_mouse(stack: EmbeddedStack, client: GatewayClient) -> TaskView:
    """Draw one box on the first task's picture and save it; return that task."""
    with browser() as chromium:
        page = chromium.new_page()
        page.set_viewport_size({"width": VIEWPORT_WH[0], "height": VIEWPORT_WH[1]})
        page.set_default_timeout(60_000)
        page.goto(f"{stack.urls['dashboard']}/annotate?project={PROJECT}&annotator={ANNOTATOR}")
        settle(page)
        canvas_of(page)
        [task] = tasks_of(client)
        assert task.state == "leased"
        draw(page).get_by_role("button", name="Complete").click()
        page.get_by_role("button", name="Save 1 box").dblclick()
        expect(page.get_by_text("Saved: 1 box")).to_be_visible(timeout=60_000)
    [saved] = tasks_of(client)
    assert (saved.id, saved.state) == (task.id, "labelled")
    return saved


def tasks_of(client: GatewayClient) -> list[TaskView]:
    [found] = client.rounds(PROJECT)
    return [t for t in client.tasks(PROJECT, found.id) if t.annotator == ANNOTATOR]


def n_saves(stack: EmbeddedStack, task_id: str) -> int:
    """Return how often the gateway was asked to save an answer to a task."""
    path = f"/v1/projects/{PROJECT}/tasks/{task_id}/answer"
    headers = {"Authorization": f"Bearer {stack.api_key}"}
    deadline = time.monotonic() + AUDIT_S
    found: list[str] = []
    with httpx2.Client(base_url=stack.urls["gateway"], headers=headers) as http:
        while time.monotonic() < deadline:
            seen_before = bool(found)
            time.sleep(2 * FLUSH_EVERY_S)
            entries = http.get("/v1/audit", params={"limit": 1000}).raise_for_status().json()
            found = [entry["path"] for entry in entries if entry["path"] == path]
            if seen_before:
                break
    return len(found)
