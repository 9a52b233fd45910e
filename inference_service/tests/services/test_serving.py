"""Serving against a registry and packages that misbehave."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from inference_service.app.core.loading import RuntimeOptions, load_runtime
from inference_service.app.core.runtime import DetectorRuntime
from inference_service.app.core.scored import Picture
from inference_service.app.services.local_models import LocalModels
from inference_service.app.services.serving import RefusedModel, Serving
from inference_service.tests.neighbours import PROJECT, LocalGateway, LocalRegistry, calibration
from inference_service.tests.tiny import picture
from shared.detector.info import GRAPH_FILE, WEIGHTS_FILE
from shared.errors import BackendUnavailable, NotFound, UpstreamFailed


class Workshop:
    """A serving whose model 2 breaks PyTorch while `broken`, and whose registry may break too."""

    def __init__(self, registry: LocalRegistry, gateway: LocalGateway, folder: Path) -> None:
        self.registry = registry
        self.models = LocalModels(registry, folder)
        self.broken = True
        self.serving = Serving(registry, gateway, self.models, self.load)

    def load(self, folder: Path) -> DetectorRuntime:
        if folder.name == "v2" and self.broken:
            raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")
        return load_runtime(folder, RuntimeOptions(threads=1))


@pytest.fixture
def workshop(registry: LocalRegistry, gateway: LocalGateway, tmp_path: Path) -> Iterator[Workshop]:
    workshop = Workshop(registry, gateway, tmp_path / "models")
    yield workshop
    workshop.serving.close()


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_model_that_breaks_pytorch_is_refused_and_the_old_one_serves(workshop: Workshop) -> None:
    assert workshop.serving.view(PROJECT).model_version == 1
    workshop.registry.add(2)
    workshop.registry.production = 2
    workshop.serving.refresh()
    view = workshop.serving.view(PROJECT)
    assert view.model_version == 1
    assert view.refused is not None
    assert view.refused.model_version == 2
    assert view.refused.reason == "mat1 and mat2 shapes cannot be multiplied"


def test_the_poller_outlives_an_error_that_nobody_foresaw(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert workshop.serving.view(PROJECT).model_version == 1
    n_failed = 0

    def fail(project: str, version: int) -> str | None:
        nonlocal n_failed
        n_failed += 1
        raise KeyError(project)

    workshop.broken = False
    workshop.registry.add(2)
    with monkeypatch.context() as patch:
        patch.setattr(workshop.registry, "calibration_json", fail)
        workshop.registry.production = 2
        workshop.serving.start(0.01)
        eventually(lambda: n_failed >= 2)
        assert workshop.serving.view(PROJECT).model_version == 1
    eventually(lambda: workshop.serving.view(PROJECT).model_version == 2)


def test_what_another_process_of_this_machine_serves_is_loaded_before_anybody_asks(
    workshop: Workshop, gateway: LocalGateway
) -> None:
    other = Serving(workshop.registry, gateway, workshop.models, workshop.load)
    other.start(0.01)
    assert workshop.serving.view(PROJECT).model_version == 1
    workshop.registry.asked_about.clear()
    eventually(lambda: PROJECT in workshop.registry.asked_about)
    other.close()
    workshop.registry.down = True
    assert other.view(PROJECT).registry_error is None


@pytest.mark.parametrize("project", ["nothing", "My Project"])
def test_a_project_that_is_not_there_is_not_asked_about_again(
    workshop: Workshop, project: str
) -> None:
    workshop.registry.production = None
    for down in (False, True):
        workshop.registry.down = down
        with pytest.raises(NotFound, match=f"unknown project: {project!r}"):
            workshop.serving.model(project)
    workshop.registry.down = False
    workshop.registry.asked_about.clear()
    workshop.serving.refresh()
    assert workshop.registry.asked_about == []


def test_a_registry_that_refuses_to_answer_does_not_end_serving(
    workshop: Workshop, gateway: LocalGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert workshop.serving.view(PROJECT).registry_error is None

    def refuse(project: str) -> dict[str, int]:
        raise UpstreamFailed("MLflow (http://test): 403")

    monkeypatch.setattr(workshop.registry, "aliases", refuse)
    again = Serving(workshop.registry, gateway, workshop.models, workshop.load)
    view = again.view(PROJECT)
    again.close()
    assert (view.model_version, view.registry_error) == (1, "MLflow (http://test): 403")


def test_who_comes_when_serving_has_ended_is_told_so(workshop: Workshop) -> None:
    assert workshop.serving.view(PROJECT).model_version == 1
    workshop.serving.close()
    with pytest.raises(BackendUnavailable, match="this server is stopping"):
        workshop.serving.score(PROJECT, Picture("a", "test", picture(0)))


def test_a_calibration_of_other_weights_is_refused(workshop: Workshop) -> None:
    workshop.registry.calibrations[1] = calibration(1, 0.9, "0" * 64)
    with pytest.raises(RefusedModel, match=f"calibration of other weights: '{'0' * 64}', the mod"):
        workshop.serving.model(PROJECT)


@pytest.mark.parametrize("file", [WEIGHTS_FILE, GRAPH_FILE])
@pytest.mark.parametrize("damage", [b"", None])
def test_a_damaged_local_copy_is_fetched_again(
    workshop: Workshop, file: str, damage: bytes | None
) -> None:
    weights = workshop.models.fetch(PROJECT, 1) / file
    whole = weights.read_bytes()
    if damage is None:
        weights.unlink()
    else:
        weights.write_bytes(damage)
    assert workshop.serving.view(PROJECT).model_version == 1
    assert weights.read_bytes() == whole
