"""Pictures of every page of a running dashboard: `python -m dashboard.screenshots URL FOLDER`."""

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

# Those that scripts/system-packages.sh is content with.
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
# File name and path; the first page of the navigation has no path.
PAGES = {
    "loop": "",
    "learning-curve": "learning-curve",
    "drift": "drift",
    "images": "images",
    "search": "search",
    "try-it": "try-it",
    "annotate": "annotate",
}
VIEWPORT_WH = (1400, 900)
LOAD_MS = 60_000


def installed_browser() -> str | None:
    """Return the path of the system's browser, if it has one."""
    return next((path for name in BROWSERS if (path := shutil.which(name))), None)


@contextmanager
def browser() -> Iterator["Browser"]:
    """Yield a headless Chromium: the system's, or Playwright's own."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=installed_browser(),
            args=["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"],
        )
        try:
            yield chromium
        finally:
            chromium.close()


def settle(page: "Page") -> None:
    """Wait until the page's script has run and its pictures are there."""
    page.wait_for_selector('[data-testid="stApp"][data-test-script-state="notRunning"]')
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(1000)


def take(url: str, folder: Path, upload: Path | None = None) -> list[Path]:
    """Write one PNG per page.

    Args:
        url: the dashboard's address.
        folder: where the pictures go.
        upload: an image file for "Try it".
    """
    folder.mkdir(parents=True, exist_ok=True)
    taken = []
    with browser() as chromium:
        page = chromium.new_page()
        page.set_viewport_size({"width": VIEWPORT_WH[0], "height": VIEWPORT_WH[1]})
        page.set_default_timeout(LOAD_MS)
        for name, path in PAGES.items():
            page.goto(f"{url.rstrip('/')}/{path}?annotator=screenshot")
            settle(page)
            chooser = page.locator('input[type="file"]')
            if name == "try-it" and upload is not None and chooser.count():
                chooser.set_input_files(upload)
                page.get_by_test_id("stImage").first.wait_for()
                settle(page)
            taken.append(folder / f"{name}.png")
            page.screenshot(path=taken[-1])
    return taken


if __name__ == "__main__":
    dashboard_url, target, *rest = sys.argv[1:]
    take(dashboard_url, Path(target), Path(rest[0]) if rest else None)
