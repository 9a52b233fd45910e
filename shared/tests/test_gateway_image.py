"""The gateway's image builds on a real engine, and answers as the stack starts it."""

import os
import shutil
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator

import pytest

from shared.tests.stack_files import ROOT

pytestmark = pytest.mark.skipif(
    os.environ.get("FOVEA_TEST_DOCKER") != "1",
    reason="FOVEA_TEST_DOCKER is not 1: no Docker engine to build images on",
)
DOCKER = shutil.which("docker") or "docker"
SECRET = "0123456789abcdef" * 4
# As compose.common.yaml has it.
HARDENED = (
    *("--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL"),  # noqa: S108 - the container's
    *("--security-opt", "no-new-privileges:true"),
)
ENVIRONMENT = {
    "FOVEA_HOST": "0.0.0.0",  # noqa: S104 - the container's
    "FOVEA_STATE_DIR": "/state",
    "FOVEA_DATABASE_URL": "sqlite:////state/fovea.db",
    "FOVEA_SERVICE_KEY": SECRET,
    "FOVEA_SIGNING_KEY": SECRET,
}


def docker(*arguments: str) -> str:
    done = subprocess.run(
        [DOCKER, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout.strip()


@pytest.fixture(scope="module")
def image() -> str:
    docker("build", "--quiet", "--tag", "fovea/gateway:test", "--file", "gateway/Dockerfile", ".")
    return "fovea/gateway:test"


@pytest.fixture(scope="module")
def options() -> Iterator[list[str]]:
    volume = f"fovea-test-{uuid.uuid4().hex[:8]}"
    docker("volume", "create", volume)
    variables = [part for name, value in ENVIRONMENT.items() for part in ("-e", f"{name}={value}")]
    yield [*HARDENED, "--volume", f"{volume}:/state", *variables]
    docker("volume", "rm", volume)


@pytest.fixture(scope="module")
def address(image: str, options: list[str]) -> Iterator[str]:
    docker("run", "--rm", *options, image, "fovea", "migrate")
    container = docker("run", "--detach", "--publish", "127.0.0.1::8000", *options, image)
    yield f"http://{docker('port', container, '8000')}"
    docker("rm", "--force", container)


def answer(url: str, **headers: str) -> tuple[int, str]:
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 - our own container
    try:
        with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310
            return response.status, response.read().decode()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read().decode()


def wait_for(url: str, timeout_s: float = 60.0) -> tuple[int, str]:
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            return answer(url)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def test_the_gateway_answers_and_names_the_back_ends_that_are_down(address: str) -> None:
    assert wait_for(f"{address}/healthz") == (200, '{"status":"ok"}')
    status, body = answer(f"{address}/readyz")
    assert status == 503
    assert '"database":"ok"' in body
    assert "ModuleNotFoundError" not in body
    assert "data_service" in body


def test_the_migrated_database_knows_a_new_key(
    address: str, image: str, options: list[str]
) -> None:
    command = ("python", "-m", "gateway.app.keys", "create", "--name", "test", "--role", "admin")
    key = docker("run", "--rm", *options, image, *command).splitlines()[-1]
    wait_for(f"{address}/healthz")
    assert answer(f"{address}/v1/keys")[0] == 401
    status, body = answer(f"{address}/v1/keys", Authorization=f"Bearer {key}")
    assert status == 200
    assert '"test"' in body


def test_the_image_refuses_a_default_secret(image: str) -> None:
    command = [DOCKER, "run", "--rm", "-e", "FOVEA_HOST=0.0.0.0", image]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "FOVEA_SERVICE_KEY must be set to a secret of at least 32 characters" in done.stderr


def test_nothing_in_the_image_runs_as_root(image: str) -> None:
    assert docker("run", "--rm", image, "id", "-u") == "10001"
