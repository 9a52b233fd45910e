import io
import json
import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from shared.cli.main import app
from shared.client import GatewayClient
from shared.demo.digits import make_batch
from shared.demo.run import served_version
from shared.errors import Conflict, NotFound, Unauthorised, UnsupportedMedia
from shared.local.stack import ROOT, EmbeddedStack
from shared.models.data import ProjectCopy
from shared.models.registry import DriftCreate, DriftResult, PromotionCreate
from shared.models.rounds import LeaseCreate
from shared.models.strategies import describe
from shared.tests.stack.rounds import finish_round, make_project, start_round

pytestmark = [pytest.mark.stack, pytest.mark.timeout(900)]
PROJECT = "round"


@pytest.fixture(scope="module")
def project(client: GatewayClient, digits: Path) -> str:
    """A project after two rounds: a cold start, then entropy."""
    report = make_project(client, PROJECT, digits)
    assert report.n_added == 84
    assert report.n_by_split["train"] == 40
    first = finish_round(client, start_round(client, PROJECT, "kmeans"))
    assert (first.state, first.error) == ("done", None)
    second = finish_round(client, start_round(client, PROJECT, "entropy"))
    assert (second.state, second.error) == ("done", None)
    return PROJECT


def test_every_part_is_ready(stack: EmbeddedStack) -> None:
    assert [part.name for part in stack.health() if not part.ready] == []


def test_each_round_labels_new_images_and_makes_one_model(
    client: GatewayClient, project: str
) -> None:
    first, second = client.rounds(project)
    chosen = [image.image_id for found in (first, second) for image in found.selected]
    assert len(chosen) == len(set(chosen)) == 16
    assert (first.model_version, second.model_version) == (1, 2)
    assert [model.version for model in client.models(project)] == [1, 2]
    assert client.project(project).n_labelled == 16
    assert first.promoted is True
    assert all(image.reason for image in second.selected)


def test_the_round_says_how_long_each_step_took(client: GatewayClient, project: str) -> None:
    steps = {step.step: step for step in client.rounds(project)[1].steps}
    wanted = {"score", "select", "close", "train", "score_heldout", "calibrate", "gate"}
    assert set(steps) == wanted
    assert all(step.state == "succeeded" and step.seconds for step in steps.values())


def test_the_labels_say_that_an_oracle_gave_them(client: GatewayClient, project: str) -> None:
    found = client.rounds(project)[0]
    assert found.dataset_version is not None
    manifest = client.manifest(project, found.dataset_version)
    sources = {a.source for i in manifest.items if i.split == "train" for a in i.annotations}
    assert sources == {"oracle"}


def test_a_dataset_version_is_exported_as_yolo(
    client: GatewayClient, project: str, tmp_path: Path
) -> None:
    target = tmp_path / "v.zip"
    client.export(project, 1, "yolo", target)
    names = zipfile.ZipFile(target).namelist()
    assert any(name.endswith("data.yaml") for name in names)


def test_predictions_come_from_the_production_model_and_drift_is_seen(
    client: GatewayClient, project: str, tmp_path: Path
) -> None:
    version = client.aliases(project).production
    deadline = time.monotonic() + 30
    while served_version(client, project) != version:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    for path in make_batch(tmp_path, 40, seed=5, shifted=True):
        seen = client.predict(project, path.read_bytes(), name=path.name, batch="shifted")
        assert seen.model_version == version
    job = client.wait_job(client.drift_report(project, DriftCreate(batch="shifted")).id)
    result = DriftResult.model_validate(job.result)
    assert result.n_current == 40
    assert "brightness" in result.drifted_columns
    assert b"<html" in client.drift_html(project, result.report_id)[:2000].lower()


def test_a_rollback_serves_the_previous_model_again(client: GatewayClient, project: str) -> None:
    client.promote(project, PromotionCreate(model_version=1))
    moved = client.promote(project, PromotionCreate(model_version=2))
    assert (moved.production, moved.previous) == (2, 1)
    assert client.rollback(project).production == 1
    with pytest.raises(Conflict, match="no previous model"):
        client.rollback(project)
    assert client.promote(project, PromotionCreate(model_version=2)).production == 2


def test_a_picture_that_is_none_is_refused_with_its_name(
    client: GatewayClient, project: str
) -> None:
    with pytest.raises(UnsupportedMedia, match="notes"):
        client.predict(project, b"these are notes", name="notes.txt")
    picture = io.BytesIO()
    Image.new("RGB", (40, 30), "white").save(picture, "PNG")
    assert client.predict(project, picture.getvalue()).width == 40


def test_unknown_things_are_404_with_their_names(client: GatewayClient, project: str) -> None:
    with pytest.raises(NotFound, match="'nowhere'"):
        client.project("nowhere")
    with pytest.raises(NotFound, match="'nowhere'"):
        client.rounds("nowhere")
    with pytest.raises(NotFound, match="'nowhere'"):
        client.models("nowhere")
    with pytest.raises(NotFound, match="'r7'"):
        client.round(project, "r7")
    with pytest.raises(NotFound, match="'j7'"):
        client.job("j7")
    with pytest.raises(NotFound, match="unknown model version: 77"):
        client.model(project, 77)
    with pytest.raises(NotFound, match="abc"):
        client.image(project, "abc")
    with pytest.raises(NotFound, match="no open task"):
        client.lease_task(project, LeaseCreate(annotator="ann"))


def test_a_wrong_key_is_refused(stack: EmbeddedStack) -> None:
    with pytest.raises(Unauthorised):
        GatewayClient(stack.urls["gateway"], "fov_wrong").projects()


def test_commands_of_the_cli_reach_the_stack(stack: EmbeddedStack, project: str) -> None:
    models = fovea(stack, "models", "--project", project)
    assert "production" in models
    assert "kmeans" in fovea(stack, "round", "list", "--project", project)
    assert "inference.score" in fovea(stack, "jobs", "list", "--project", project)
    trained = fovea(stack, "train", "--project", project, "--epochs", "1", "--image-size", "96")
    assert "model v3 of dataset version" in trained
    assert "test F1" in fovea(stack, "calibrate", "--project", project)


def test_images_and_objects_are_found_by_likeness_and_laid_out(
    stack: EmbeddedStack, client: GatewayClient, project: str, digits: Path, tmp_path: Path
) -> None:
    assert "images scored" in fovea(stack, "score", "-p", project, "--splits", "train")
    stored = client.images(project, split="train", limit=1).images[0]
    version = client.aliases(project).production
    by_name = fovea(stack, "similar", stored.name, "-p", project, "-k", "3")
    assert f"of 84 images that model v{version} scored" in by_name
    file = digits / "images" / "train" / Path(stored.name).name
    nearest = client.images_like(project, file.read_bytes(), k=1).images[0]
    assert nearest.image_id == stored.id
    objects = fovea(stack, "similar", str(file), "-p", project, "--xyxy", "0.2,0.2,0.8,0.8")
    assert f"boxes that model v{version} scored" in objects
    picture = tmp_path / "map.png"
    assert "84 of 84 images" in fovea(
        stack, "map", "-p", project, "--method", "pca", "--output", str(picture)
    )
    assert {p.image_id for p in client.newest_map(project).points} == {
        image.id for image in client.iter_images(project)
    }
    assert Image.open(picture).size == (960, 840)
    assert "groups of near-duplicates" in fovea(stack, "duplicates", "-p", project)


def test_a_command_that_fails_says_so_in_one_line(stack: EmbeddedStack) -> None:
    done = run_fovea(stack, "models", "--project", "nowhere")
    assert done.returncode == 1
    assert done.stderr.strip().startswith("error: unknown project: 'nowhere'")


def test_the_stack_file_says_where_everything_is(stack: EmbeddedStack) -> None:
    stored = json.loads((stack.state / "stack.json").read_text())
    assert stored["urls"]["gateway"] == stack.urls["gateway"]
    assert (stack.state / "secrets.json").stat().st_mode & 0o077 == 0


def fovea(stack: EmbeddedStack, *arguments: str) -> str:
    done = run_fovea(stack, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def run_fovea(stack: EmbeddedStack, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "shared.cli.main", *arguments],
        cwd=ROOT,
        env={**os.environ, "FOVEA_STATE_DIR": str(stack.state), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_who_asks_for_no_strategy_gets_the_one_that_is_proven(
    stack: EmbeddedStack, client: GatewayClient, project: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOVEA_GATEWAY_URL", stack.urls["gateway"])
    monkeypatch.setenv("FOVEA_API_KEY", stack.api_key)
    client.copy_project(project, ProjectCopy(name="untrained", dataset_version=1))
    for name, strategy in ((project, "class_weighted_entropy"), ("untrained", "kmeans")):
        arguments = ["round", "start", "--project", name, "--budget", "2"]
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 0, done.output
        assert f"started, by {strategy}" in done.output
        begun = client.rounds(name)[-1]
        assert describe(begun.request.strategy) == strategy
        client.cancel_round(name, begun.id)
