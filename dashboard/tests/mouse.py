"""A hand on the mouse: boxes drawn on the canvas of the Annotate page."""

from playwright.sync_api import FloatRect, FrameLocator, Page

# Where the mouse draws, as shares of the picture.
DRAWN = (0.42, 0.05, 0.53, 0.25)


def canvas_of(page: Page) -> tuple[FrameLocator, FloatRect]:
    frame = page.frame_locator('iframe[title="dashboard.canvas.fovea_boxes"]')
    canvas = frame.locator("canvas").first
    canvas.wait_for()
    place = canvas.bounding_box()
    assert place is not None
    return frame, place


def draw(page: Page) -> FrameLocator:
    frame, place = canvas_of(page)
    x1, y1, x2, y2 = DRAWN
    page.mouse.move(place["x"] + x1 * place["width"], place["y"] + y1 * place["height"])
    page.mouse.down()
    page.mouse.move(place["x"] + x2 * place["width"], place["y"] + y2 * place["height"], steps=5)
    page.mouse.up()
    return frame
