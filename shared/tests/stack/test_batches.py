"""A batch on the running stack, as somebody with a terminal has it."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest
from typer.testing import CliRunner

from shared.cli.data import ingest_path
from shared.cli.main import app
from shared.client import GatewayClient
from shared.local.stack import EmbeddedStack
from shared.models.data import IngestionCreate, ProjectCreate
from shared.models.registry import TrainingCreate
from shared.objects.wiring import object_store
from shared.settings import Settings
from shared.tests.stack.rounds import TINY_TRAINING

pytestmark = [pytest.mark.stack, pytest.mark.kill, pytest.mark.timeout(1800)]

PROJECT = "batches"
N_LINES = 1024


def wait_for(condition: Callable[[], bool], timeout_s: float = 600.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.1)


def test_a_batch_is_stopped_goes_on_is_fetched_and_deleted(
    stack: EmbeddedStack,
    client: GatewayClient,
    digits: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client.create_project(ProjectCreate(name=PROJECT))
    ingest_path(client, PROJECT, digits, IngestionCreate())
    training = TrainingCreate(dataset_version=1, params=TINY_TRAINING)
    client.wait_job(client.train(PROJECT, training).id)
    monkeypatch.setenv("FOVEA_STATE_DIR", str(stack.state))
    monkeypatch.delenv("FOVEA_API_KEY", raising=False)
    images = [image.id for image in client.iter_images(PROJECT)]
    lines = tmp_path / "night.jsonl"
    entries = ({"image_id": images[n % len(images)]} for n in range(N_LINES))
    lines.write_text("\n".join(map(json.dumps, entries)))

    def fovea(*arguments: str) -> str:
        done = CliRunner().invoke(app, ["batch", *arguments])
        assert done.exit_code == 0, done.output
        return done.stdout

    create = ("create", str(lines), "-p", PROJECT, "--model", "1", "--key", "k", "--no-wait")
    told = fovea(*create)
    assert fovea(*create) == told
    batch_id = told.split()[1].rstrip(":")
    wait_for(lambda: client.batch(batch_id).counts.answered > 0)
    fovea("cancel", batch_id)
    wait_for(lambda: client.batch(batch_id).state == "cancelled")
    assert 0 < client.batch(batch_id).counts.answered < N_LINES
    fovea("resume", batch_id)
    followed = fovea("follow", batch_id, "--folder", str(tmp_path))
    assert f"completed: {N_LINES:,} of {N_LINES:,} lines answered, 0 failed\n" in followed
    answered = (tmp_path / "night.results.jsonl").read_text().splitlines()
    assert [json.loads(line)["line"] for line in answered] == list(range(1, N_LINES + 1))

    store = object_store(Settings(object_store_url=f"file:{stack.state / 'objects'}"))
    folder = f"projects/{PROJECT}/batches/{batch_id}/"
    assert len(list(store.list(folder))) == 2 * -(-N_LINES // 256) + 1
    fovea("delete", batch_id)
    wait_for(lambda: not list(store.list(folder)))
    assert client.batches(PROJECT) == []
    headers = {"Authorization": f"Bearer {stack.api_key}"}
    audit = httpx2.get(f"{client.base_url}/v1/audit", headers=headers, trust_env=False).json()
    named = [(e["method"], e["project"]) for e in audit if e["path"].startswith("/v1/batches")]
    assert named == [
        ("DELETE", PROJECT),
        *[("POST", PROJECT)] * 4,
    ]
