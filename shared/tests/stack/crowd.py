"""Many callers at once, and a project with a model in production for them to ask."""

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from shared.cli.data import ingest_path
from shared.client import GatewayClient
from shared.demo.digits import make_base_dataset
from shared.detector.dropout import add_head_dropout
from shared.detector.package import BASES, PackageOptions, load_package, save_package
from shared.errors import NotFound
from shared.local.stack import EmbeddedStack
from shared.models.data import IngestionCreate, ProjectCreate
from shared.models.registry import PromotionCreate
from shared.registry import ModelRegistry, Registration
from shared.tests.stack.mixed_requests import Sending

PROJECT = "crowd"
N_IMAGES = 24
N_KEYS = 5
TIMEOUT_S = 300.0
BUSY = {"ServingBusy", "DecodingBusy"}


@dataclass(frozen=True)
class Answer:
    """What a sending got in the end, how often it was told to come back, and after how long."""

    status: int
    body: dict[str, Any]
    n_busy: int
    seconds: float


class Crowd:
    """Callers with a connection each, who all send at the same moment."""

    def __init__(self, gateway_url: str, keys: Sequence[str]) -> None:
        """Ask a gateway with these keys in turn: one alone may not send as often."""
        self._url = f"{gateway_url}/v1/projects/{PROJECT}/predict"
        self._keys = keys
        self._n_inside = 0
        self.most_inside = 0

    def send(self, sendings: Sequence[Sending]) -> list[Answer]:
        """Send all of them at once; who is told to come back does so until answered."""
        return asyncio.run(self._send_all(sendings))

    async def _send_all(self, sendings: Sequence[Sending]) -> list[Answer]:
        limits = httpx2.Limits(max_connections=len(sendings), max_keepalive_connections=0)
        async with httpx2.AsyncClient(limits=limits, timeout=TIMEOUT_S, trust_env=False) as http:
            callers = (self._answer(http, n, sent) for n, sent in enumerate(sendings))
            return await asyncio.gather(*callers)

    async def _answer(self, http: httpx2.AsyncClient, n: int, sent: Sending) -> Answer:
        key = self._keys[n % len(self._keys)]
        headers = {"Authorization": f"Bearer {key}", "Content-Type": sent.kind}
        started = time.monotonic()
        for n_busy in range(1000):
            self._n_inside += 1
            self.most_inside = max(self.most_inside, self._n_inside)
            response = await http.post(self._url, content=sent.body, headers=headers)
            self._n_inside -= 1
            if response.status_code != 503:
                seconds = time.monotonic() - started
                return Answer(response.status_code, response.json(), n_busy, seconds)
            assert response.json()["error"] in BUSY, (sent.name, response.text)
            # As a polite caller: later each time, lest the crowd come back as one.
            wait_s = int(response.headers["Retry-After"]) + random.uniform(0, 1 + n_busy)
            await asyncio.sleep(wait_s)
        raise AssertionError(sent.name)


def callers_keys(stack: EmbeddedStack) -> list[str]:
    """Return keys of several callers."""
    url, headers = f"{stack.urls['gateway']}/v1/keys", {"X-API-Key": stack.api_key}
    made = [
        httpx2.post(url, headers=headers, json={"name": f"caller {n}", "role": "admin"})
        for n in range(N_KEYS)
    ]
    return [answer.raise_for_status().json()["key"] for answer in made]


def make_served_project(stack: EmbeddedStack, client: GatewayClient, folder: Path) -> list[Path]:
    """Have the base model serve images like those it was trained on; return their files.

    Nothing is trained: it is registered twice, and version 1 promoted.
    """
    photos = make_base_dataset(folder / "images", n_train=N_IMAGES, n_val=1).parent
    try:
        client.project(PROJECT)
    except NotFound:
        model, info = load_package(BASES / "fovea-digits")
        add_head_dropout(model, 0.1)
        options = PackageOptions(info.image_size, info.base, graph=True)
        info = save_package(model, folder / "model", options)
        client.create_project(ProjectCreate(name=PROJECT, classes=info.classes))
        ingest_path(client, PROJECT, photos, IngestionCreate())
        registry = ModelRegistry(stack.urls["mlflow"])
        for version in ("first", "second"):
            registry.register(
                Registration(
                    project=PROJECT,
                    job_id=version,
                    package=folder / "model",
                    classes=info.classes,
                    weights_sha256=info.weights_sha256,
                    dataset_version=None,
                    dataset_hash="",
                    round_id=None,
                    params={},
                    metrics={},
                    history={},
                )
            )
    client.promote(PROJECT, PromotionCreate(model_version=1))
    return sorted(photos.glob("images/train/*"))


def assert_answered(
    sendings: Sequence[Sending], answers: Sequence[Answer], alone: dict[str, Answer]
) -> None:
    """See that each was answered as it has to be, the good ones as when nobody else asks."""
    for sent, answer in zip(sendings, answers, strict=True):
        told = (answer.status, answer.body.get("error", ""))
        assert told == (sent.status, sent.error), (sent.name, answer)
        if sent.status == 200:
            assert_same(answer.body, alone[sent.name].body)
        else:
            assert sent.says in answer.body["detail"], (sent.name, answer)


def assert_same(given: dict[str, Any], expected: dict[str, Any]) -> None:
    """See that two answers are of one image and the same but for the last digits."""
    assert (given["image_id"], given["width"]) == (expected["image_id"], expected["width"])
    assert len(given["detections"]) == len(expected["detections"])
    for one, other in zip(given["detections"], expected["detections"], strict=True):
        assert one == {key: pytest.approx(value, abs=1e-4) for key, value in other.items()}
