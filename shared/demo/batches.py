"""Two batches of unseen images for the drift reports: one like the test images, one shifted."""

import io
import random

from PIL import Image, ImageEnhance, ImageFilter

from shared.client import GatewayClient
from shared.demo.digits import make_batch
from shared.demo.options import DemoOptions
from shared.models.data import Split

UNSEEN = 10_000
HELD_OUT: tuple[Split, ...] = ("test", "gate", "val")
MIN_BATCH = 20


def drift_batches(
    client: GatewayClient, project: str, options: DemoOptions
) -> dict[str, list[bytes]]:
    """Return the image files of the batches `unshifted` and `shifted`, of the same size.

    Digit scenes are made anew. Of a user's own data, test images are drawn (and gate and val ones,
    where there are too few), and darkened and blurred for the shifted batch.
    """
    if options.data is None:
        folder = options.output / "batches"
        return {
            name: [
                path.read_bytes()
                for path in make_batch(
                    folder / name, options.n_batch, UNSEEN + options.seed, shifted=shifted
                )
            ]
            for name, shifted in (("unshifted", False), ("shifted", True))
        }
    ids: list[str] = []
    for split in HELD_OUT:
        if len(ids) < MIN_BATCH:
            ids += [image.id for image in client.iter_images(project, split=split)]
    chosen = random.Random(options.seed).sample(ids, min(options.n_batch, len(ids)))  # noqa: S311
    images = [client.image_content(project, image_id) for image_id in chosen]
    return {"unshifted": images, "shifted": [shift(image) for image in images]}


def shift(image: bytes) -> bytes:
    """Return the image as a PNG, half as bright and blurred, as by a failing camera."""
    with Image.open(io.BytesIO(image)) as opened:
        dark = ImageEnhance.Brightness(opened.convert("RGB")).enhance(0.5)
        blurred = dark.filter(ImageFilter.GaussianBlur(max(dark.size) / 160))
    out = io.BytesIO()
    blurred.save(out, "PNG")
    return out.getvalue()
