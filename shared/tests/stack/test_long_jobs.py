"""Twenty thousand images and ten thousand lines, while the inference worker is killed."""

import json
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import psutil
import pytest
from PIL import Image

from shared.cli.data import ingest_path
from shared.client import GatewayClient
from shared.errors import BackendUnavailable
from shared.local.stack import EmbeddedStack
from shared.models.batches import BatchAnswer, BatchError
from shared.models.data import IngestionCreate, ProjectCreate, SplitFractions
from shared.models.jobs import FINAL_STATES, JobView
from shared.models.registry import ModelCopy, ScoringCreate, ScoringResult
from shared.objects.wiring import object_store
from shared.predictions import read_shards
from shared.settings import Settings
from shared.tests.stack.rounds import finish_round, make_project, start_round

pytestmark = [pytest.mark.stack, pytest.mark.kill, pytest.mark.timeout(3600)]

N_IMAGES = 20_000
N_LINES = 10_000
TIMEOUT_S = 1800.0
PROJECT = "pool"


@pytest.fixture(scope="module")
def pool(
    stack: EmbeddedStack,
    client: GatewayClient,
    digits: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> list[str]:
    """A project of many small images with a trained model; return the images' ids."""
    make_project(client, "trained", digits)
    done = finish_round(client, start_round(client, "trained", "random"))
    folder = tmp_path_factory.mktemp("pool")
    rng = np.random.default_rng(0)
    for n in range(N_IMAGES):
        coarse = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        picture = Image.fromarray(coarse).resize((64, 48), Image.Resampling.BICUBIC)
        picture.save(folder / f"{n:05}.jpg", quality=85)
    classes = client.project("trained").classes
    none = SplitFractions(val=0, gate=0, test=0)
    client.create_project(ProjectCreate(name=PROJECT, classes=classes, splits=none))
    report = ingest_path(client, PROJECT, folder, IngestionCreate())
    assert report.n_added == N_IMAGES, report.rejected[:3]
    assert done.state == "done"
    client.copy_model(PROJECT, ModelCopy(source_project="trained", model_version=1))
    return [image.id for image in client.iter_images(PROJECT)]


def watched(client: GatewayClient, job: JobView, look: Callable[[JobView], None]) -> JobView:
    """Return a job at its end; `look` sees it meanwhile."""
    deadline = time.monotonic() + TIMEOUT_S
    while job.state not in FINAL_STATES:
        assert time.monotonic() < deadline, job
        look(job)
        time.sleep(0.25)
        try:
            job = client.job(job.id)
        except BackendUnavailable:
            continue
    return job


def kill(stack: EmbeddedStack) -> None:
    os.kill(stack.pid("inference-worker"), signal.SIGKILL)


def test_every_image_of_a_large_pool_is_scored_once_in_constant_memory(
    stack: EmbeddedStack, client: GatewayClient, pool: list[str]
) -> None:
    memory: list[tuple[float, int]] = []
    killed: list[float] = []

    def look(job: JobView) -> None:
        if pid := stack.pid("inference-worker"):
            try:
                memory.append((job.progress, psutil.Process(pid).memory_full_info().pss))
            except psutil.NoSuchProcess:
                return
        if job.progress > 0.55 and not killed:
            kill(stack)
            killed.append(job.progress)

    job = watched(client, client.score(PROJECT, ScoringCreate(model_version=1)), look)
    assert (job.state, job.error) == ("succeeded", None)
    assert killed
    assert job.attempts == 2
    result = ScoringResult.model_validate(job.result)
    assert (result.n_scored, result.n_known) == (N_IMAGES, 0)
    store = object_store(Settings(object_store_url=f"file:{stack.state / 'objects'}"))
    times = Counter(image.image_id for image in read_shards(store, PROJECT, 1))
    assert set(times) == set(pool)
    assert set(times.values()) == {1}
    second, last = (
        median(pss for progress, pss in memory if low <= progress < low + 0.25)
        for low in (0.25, 0.75)
    )
    assert last < second * 1.05, (second, last)
    again = watched(client, client.score(PROJECT, ScoringCreate(model_version=1)), lambda _: None)
    known = ScoringResult.model_validate(again.result)
    assert (known.n_scored, known.n_known) == (0, N_IMAGES)


def test_every_line_of_a_large_batch_is_answered_once(
    stack: EmbeddedStack, client: GatewayClient, pool: list[str], tmp_path: Path
) -> None:
    bad = [
        '{"image_id": "nope"}',
        "{not json",
        '{"url": "http://127.0.0.1/a.png"}',
        '{"key": "imports/none.png"}',
    ]
    lines = [json.dumps({"custom_id": str(n), "image_id": pool[n]}) for n in range(N_LINES)]
    expected_bad = range(50, N_LINES, 100)
    for n in expected_bad:
        lines[n] = bad[n // 100 % len(bad)]
    path = tmp_path / "lines.jsonl"
    path.write_text("\n".join(lines))
    kills = [0.3, 0.6]

    def look(job: JobView) -> None:
        if kills and job.progress > kills[0] and stack.pid("inference-worker"):
            kill(stack)
            kills.pop(0)

    batch = client.create_batch(PROJECT, path, model_version=1)
    job = watched(client, client.job(batch.job_id), look)
    assert (job.state, kills) == ("succeeded", [])
    counts = client.batch(batch.id).counts
    assert counts.model_dump() == {
        "total": N_LINES,
        "answered": N_LINES - len(expected_bad),
        "failed": len(expected_bad),
    }
    client.batch_output(batch.id, "results", tmp_path / "results")
    client.batch_output(batch.id, "errors", tmp_path / "errors")
    answers = [
        BatchAnswer.model_validate_json(line)
        for line in (tmp_path / "results").read_text().splitlines()
    ]
    errors = [
        BatchError.model_validate_json(line)
        for line in (tmp_path / "errors").read_text().splitlines()
    ]
    assert [e.line - 1 for e in errors] == list(expected_bad)
    assert {e.error for e in errors} == {
        "NotFound",
        "ValidationFailed",
        "UrlRefused",
        "ObjectNotFound",
    }
    good = [n for n in range(N_LINES) if n not in expected_bad]
    assert [a.line - 1 for a in answers] == good
    assert [a.image_id for a in answers] == [pool[n] for n in good]
