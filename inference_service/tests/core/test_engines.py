from pathlib import Path

import pytest

from inference_service.app.core import engines
from inference_service.app.core.engines import CHOICE_FILE, choose, load_fastest, this_machine
from inference_service.app.core.loading import ENGINES, Engine, RuntimeOptions
from inference_service.app.core.runtime import DetectionOptions
from inference_service.app.core.tapped_runtime import TappedRuntime
from inference_service.tests.contract import INPUTS
from inference_service.tests.tiny import tiny_model, tiny_package
from shared.detector.package import GRAPH_FILE, CorruptPackage, PackageOptions, save_package

OPTIONS = RuntimeOptions(threads=1)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    tiny_package(tmp_path)
    return tmp_path


def told(monkeypatch: pytest.MonkeyPatch, speeds: dict[Engine, float]) -> list[Engine]:
    """Let engines have these speeds, and return those that were asked for one."""
    asked: list[Engine] = []

    def speed(folder: Path, options: RuntimeOptions, engine: Engine) -> float:
        asked.append(engine)
        return speeds[engine]

    monkeypatch.setattr(engines, "_speed", speed)
    return asked


def test_every_engine_is_measured_and_the_fastest_taken(package: Path) -> None:
    choice = choose(package, OPTIONS)
    assert set(choice.images_per_s) == set(ENGINES)
    assert choice.images_per_s[choice.engine] == max(choice.images_per_s.values()) > 0
    found = load_fastest(package, OPTIONS).detect(INPUTS, DetectionOptions())
    assert len(found) == len(INPUTS)


@pytest.mark.parametrize("fastest", ENGINES)
def test_a_choice_is_made_once(
    package: Path, fastest: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    speeds: dict[Engine, float] = dict.fromkeys(ENGINES, 1.0)
    asked = told(monkeypatch, speeds | {fastest: 2.0})
    first = choose(package, OPTIONS)
    assert first.engine == fastest
    assert choose(package, OPTIONS) == first
    assert asked == list(ENGINES)


def test_a_choice_of_another_machine_is_made_again(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = told(monkeypatch, dict.fromkeys(ENGINES, 1.0))
    monkeypatch.setattr(engines, "_processor", lambda: "another one")
    choose(package, OPTIONS)
    monkeypatch.undo()
    asked = told(monkeypatch, dict.fromkeys(ENGINES, 1.0))
    assert choose(package, OPTIONS).machine == this_machine(OPTIONS)
    assert asked == list(ENGINES)
    assert this_machine(OPTIONS) != this_machine(RuntimeOptions(threads=2))


def test_a_package_without_a_graph_runs_in_pytorch_unmeasured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_package(tiny_model(), tmp_path, PackageOptions(96, "scratch"))
    asked = told(monkeypatch, {})
    assert isinstance(load_fastest(tmp_path, OPTIONS), TappedRuntime)
    assert not asked
    assert not (tmp_path / CHOICE_FILE).exists()


@pytest.mark.parametrize("harm", ["cut", "gone"])
def test_a_damaged_graph_is_refused_by_name(package: Path, harm: str) -> None:
    graph = package / GRAPH_FILE
    if harm == "cut":
        graph.write_bytes(graph.read_bytes()[:-1])
    else:
        graph.unlink()
    with pytest.raises(CorruptPackage, match=str(graph)):
        load_fastest(package, OPTIONS)
