"""A second inference worker, as a large machine has it."""

import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx2
import numpy as np
import pytest
from PIL import Image

from inference_service.tests.launched import eventually
from shared.cli.data import ingest_path
from shared.client import GatewayClient
from shared.local.programs import programs
from shared.local.stack import ROOT, EmbeddedStack
from shared.models.data import IngestionCreate, ProjectCreate, SplitFractions
from shared.models.jobs import FINAL_STATES
from shared.models.registry import ScoringCreate
from shared.objects.wiring import object_store
from shared.predictions import read_shards
from shared.settings import Settings
from shared.tests.ports import free_ports

pytestmark = [pytest.mark.stack, pytest.mark.timeout(600)]

SECOND = "inference-worker-2"
# More than one worker takes at a time.
N_IMAGES = 400
PART_DONE = 'fovea_jobs_total{kind="inference.score_part",queue="inference",state="succeeded"} 1.0'


@pytest.fixture
def second(stack: EmbeddedStack, tmp_path: Path) -> Iterator[str]:
    """Start the worker that a stack with two has; return where it tells its numbers."""
    port = free_ports(1)[0]
    ports = stack.config.ports | {SECOND: port}
    program = next(p for p in programs(stack.state, ports) if p.name == SECOND)
    environment = stack.config.environment() | program.environment
    with (tmp_path / "log").open("ab") as log:
        process = subprocess.Popen(
            program.command, env=environment, cwd=ROOT, stdout=log, stderr=log
        )
    url = f"{program.url}/metrics"
    try:
        eventually(lambda: answers(url), tmp_path / "log")
        yield url
    finally:
        process.terminate()
        process.wait(timeout=30)


def answers(url: str) -> bool:
    try:
        return httpx2.get(url).is_success
    except httpx2.TransportError:
        return False


def test_two_workers_share_the_scoring_of_a_pool(
    stack: EmbeddedStack, client: GatewayClient, second: str, tmp_path: Path
) -> None:
    folder = tmp_path / "pool"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for n in range(N_IMAGES):
        coarse = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((64, 48), Image.Resampling.BICUBIC).save(folder / f"{n}.png")
    none = SplitFractions(val=0, gate=0, test=0)
    client.create_project(ProjectCreate(name="shared-pool", classes=("a",), splits=none))
    assert ingest_path(client, "shared-pool", folder, IngestionCreate()).n_added == N_IMAGES
    job = client.score("shared-pool", ScoringCreate())
    eventually(lambda: client.job(job.id).state in FINAL_STATES)
    assert (client.job(job.id).state, client.job(job.id).error) == ("succeeded", None)
    store = object_store(Settings(object_store_url=f"file:{stack.state / 'objects'}"))
    times = Counter(image.image_id for image in read_shards(store, "shared-pool", None))
    assert set(times) == {image.id for image in client.iter_images("shared-pool")}
    assert set(times.values()) == {1}
    assert PART_DONE in httpx2.get(second).text
