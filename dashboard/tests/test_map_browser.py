"""A person with a mouse on the map, in a real browser."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from dashboard.screenshots import browser, settle
from dashboard.tests.neighbour import KEY, gateway_app, serve
from dashboard.tests.running import running_dashboard
from dashboard.tests.world import busy_world


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    """The map of 60 images."""
    with (
        serve(gateway_app(busy_world())) as url,
        running_dashboard(url, KEY, tmp_path) as dashboard,
        browser() as chromium,
    ):
        page = chromium.new_page(viewport={"width": 1400, "height": 1800})
        page.set_default_timeout(60_000)
        page.goto(f"{dashboard}/search")
        page.get_by_text("Map", exact=True).click()
        settle(page)
        yield page


def test_every_image_of_an_area_is_shown_by_name_and_leads_to_what_is_like_it(page: Page) -> None:
    place = page.locator('[data-testid="stVegaLiteChart"] svg.marks').bounding_box()
    assert place is not None
    page.mouse.move(place["x"] + 2, place["y"] + 2)
    page.mouse.down()
    page.mouse.move(place["x"] + 0.9 * place["width"], place["y"] + place["height"] - 2, steps=5)
    page.mouse.up()
    expect(page.get_by_text("60 images in this area")).to_be_visible(timeout=30_000)
    names = page.get_by_role("button", name="scene_")
    expect(names).to_have_count(24, timeout=30_000)
    page.get_by_role("button", name="Page 3").click()
    expect(names).to_have_count(12, timeout=30_000)
    names.last.click()
    expect(page.get_by_text("Nearest first, of 60 images")).to_be_visible(timeout=30_000)
    expect(page.get_by_text("scene_0059.jpg").first).to_be_visible(timeout=30_000)
