"""Five hundred predictions at once, good and bad mixed: all are answered, and none wrongly."""

import random
import time
from itertools import islice
from pathlib import Path

import psutil
import pytest
from typer.testing import CliRunner

from shared.cli.main import app
from shared.client import GatewayClient
from shared.local.stack import EmbeddedStack
from shared.tests.stack.crowd import (
    PROJECT,
    Answer,
    Crowd,
    assert_answered,
    callers_keys,
    make_served_project,
)
from shared.tests.stack.mixed_requests import (
    Sending,
    bad_sendings,
    good_sendings,
    too_long_sending,
)

pytestmark = [pytest.mark.stack, pytest.mark.timeout(1800)]

N_BAD = 60
N_TOO_LONG = 2
REST_S = 60.0


@pytest.fixture(scope="module")
def photos(
    stack: EmbeddedStack, client: GatewayClient, tmp_path_factory: pytest.TempPathFactory
) -> list[Path]:
    return make_served_project(stack, client, tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="module")
def crowd(stack: EmbeddedStack) -> Crowd:
    return Crowd(stack.urls["gateway"], callers_keys(stack))


@pytest.fixture(scope="module")
def good(client: GatewayClient, photos: list[Path]) -> list[Sending]:
    image_ids = [image.id for image in islice(client.iter_images(PROJECT), 4)]
    return list(good_sendings(photos, image_ids))


@pytest.fixture(scope="module")
def alone(crowd: Crowd, good: list[Sending]) -> dict[str, Answer]:
    """What each good image is answered when nobody else asks."""
    return {sent.name: crowd.send([sent])[0] for sent in good}


def mixture(n: int, good: list[Sending], photo: Path) -> list[Sending]:
    """Return `n` sendings in random order, among them all that are bad."""
    bad = list(bad_sendings(photo))
    chosen = [bad[i % len(bad)] for i in range(N_BAD)] + [too_long_sending()] * N_TOO_LONG
    chosen += [good[i % len(good)] for i in range(n - len(chosen))]
    random.Random(0).shuffle(chosen)
    return chosen


def pss_mb(stack: EmbeddedStack, name: str) -> float:
    """Return the memory of a part of the stack, with all its processes."""
    process = psutil.Process(stack.pid(name))
    members = [process, *process.children(recursive=True)]
    return sum(float(member.memory_full_info().pss) for member in members) / 1e6


def test_the_model_sees_something(alone: dict[str, Answer]) -> None:
    found = {name: len(answer.body["detections"]) for name, answer in alone.items()}
    assert {answer.status for answer in alone.values()} == {200}
    assert sum(found.values()) > len(found), found


def test_the_command_shows_what_is_seen_and_a_refused_file_stops_no_other(
    stack: EmbeddedStack, photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOVEA_STATE_DIR", str(stack.state))
    monkeypatch.delenv("FOVEA_API_KEY", raising=False)
    (broken := tmp_path / "broken.jpg").write_bytes(photos[0].read_bytes()[:500])
    given = [broken, tmp_path / "none.jpg", photos[0]]
    done = CliRunner().invoke(app, ["predict", "-p", PROJECT, *map(str, given)])
    assert (done.exit_code, done.stderr) == (1, "error: 2 of 3 images were refused\n")
    assert "broken.jpg: corrupt image" in done.stdout
    assert "none.jpg: no such file" in done.stdout
    assert f"{photos[0].name} (model v" in done.stdout


def test_a_crowd_is_answered_rightly(
    crowd: Crowd, photos: list[Path], good: list[Sending], alone: dict[str, Answer]
) -> None:
    sendings = mixture(160, good, photos[0])
    answers = crowd.send(sendings)
    assert crowd.most_inside == 160
    assert_answered(sendings, answers, alone)


@pytest.mark.kill
def test_five_hundred_at_once_leave_no_memory_behind(
    stack: EmbeddedStack,
    crowd: Crowd,
    photos: list[Path],
    good: list[Sending],
    alone: dict[str, Answer],
) -> None:
    sendings = mixture(500, good, photos[0])
    memory: list[dict[str, float]] = []
    for _ in ("to warm up", "for good"):
        answers = crowd.send(sendings)
        assert crowd.most_inside == 500
        assert_answered(sendings, answers, alone)
        time.sleep(REST_S)
        memory.append({name: pss_mb(stack, name) for name in ("inference", "gateway")})
    warm, after = memory
    assert all(after[name] < warm[name] * 1.1 for name in warm), memory
