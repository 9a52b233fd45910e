from collections import Counter
from pathlib import Path

import pytest

from inference_service.app.core import engines
from inference_service.app.core.engines import TURNS, Engines, this_machine
from inference_service.app.core.loading import ENGINES, RuntimeOptions
from inference_service.app.core.runtime import DetectionOptions, DetectorRuntime, RuntimeInput
from inference_service.tests.contract import INPUTS
from inference_service.tests.tiny import tiny_model, tiny_package
from shared.detector.info import GRAPH_FILE, CorruptPackage
from shared.detector.package import PackageOptions, save_package
from shared.models.registry import Engine, EngineChoice

OPTIONS = RuntimeOptions(threads=1)
# In turns: what else the machine does for a while slows more than one of them.
ALL = [*ENGINES] * (TURNS + 1)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    tiny_package(tmp_path / "model")
    return tmp_path / "model"


def told(monkeypatch: pytest.MonkeyPatch, speeds: dict[Engine, float]) -> list[Engine]:
    """Let engines have these speeds in one of their turns, and return those that were asked."""
    asked: list[Engine] = []
    turns: Counter[Engine] = Counter()

    def seconds(runtime: DetectorRuntime, batch: list[RuntimeInput]) -> float:
        engine = runtime.engine.engine
        asked.append(engine)
        turns[engine] += 1
        alone = turns[engine] % (TURNS + 1) == ENGINES.index(engine) + 2
        return len(batch) / speeds[engine] * (1 if alone else 10)

    monkeypatch.setattr(engines, "_seconds", seconds)
    return asked


def here(package: Path, given: Engine | None = None, options: RuntimeOptions = OPTIONS) -> Engines:
    return Engines(package.parent / "cache" / "engines.json", options, given)


def test_every_engine_is_measured_and_the_fastest_taken(package: Path) -> None:
    choice = here(package).choose(package)
    assert set(choice.images_per_s) == set(ENGINES)
    assert choice.images_per_s[choice.engine] == max(choice.images_per_s.values()) > 0
    runtime = here(package).load(package)
    assert runtime.engine == choice
    assert len(runtime.detect(INPUTS, DetectionOptions())) == len(INPUTS)


@pytest.mark.parametrize("fastest", ENGINES)
def test_a_network_is_measured_once_whatever_its_weights(
    package: Path, fastest: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    speeds: dict[Engine, float] = dict.fromkeys(ENGINES, 1.0)
    asked = told(monkeypatch, speeds | {fastest: 2.0})
    first = here(package).choose(package)
    assert first == EngineChoice(
        machine=this_machine(OPTIONS), engine=fastest, images_per_s=speeds | {fastest: 2.0}
    )
    tiny_package(package.parent / "trained further", seed=1)
    assert here(package).choose(package.parent / "trained further") == first
    assert asked == ALL


def test_a_network_of_another_shape_is_measured_too(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = told(monkeypatch, dict.fromkeys(ENGINES, 1.0))
    here(package).choose(package)
    larger = package.parent / "larger"
    save_package(tiny_model(), larger, PackageOptions(128, "scratch", graph=True))
    here(package).choose(larger)
    here(package).choose(package)
    assert asked == [*ALL, *ALL]


def test_a_choice_of_another_machine_is_made_again(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = told(monkeypatch, dict.fromkeys(ENGINES, 1.0))
    monkeypatch.setattr(engines, "_processor", lambda: "another one")
    here(package).choose(package)
    monkeypatch.undo()
    asked = told(monkeypatch, dict.fromkeys(ENGINES, 1.0))
    assert here(package).choose(package).machine == this_machine(OPTIONS)
    assert asked == ALL
    assert this_machine(OPTIONS) != this_machine(RuntimeOptions(threads=2))


def test_processes_with_other_threads_do_not_take_each_other_s_choice(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = told(monkeypatch, dict.fromkeys(ENGINES, 1.0))
    for threads in (1, 2, 1, 2):
        here(package, options=RuntimeOptions(threads=threads)).choose(package)
        # Whoever asks by several threads goes by it too.
        here(package, options=RuntimeOptions(threads=threads, askers=3)).choose(package)
    assert asked == [*ALL, *ALL]


@pytest.mark.parametrize("given", ENGINES)
def test_a_given_engine_is_taken_unmeasured(
    package: Path, given: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = told(monkeypatch, {})
    runtime = here(package, given).load(package)
    assert (runtime.engine.engine, runtime.engine.images_per_s) == (given, {})
    assert not asked


@pytest.mark.parametrize("given", [None, "openvino"])
def test_a_package_without_a_graph_runs_in_pytorch_unmeasured(
    tmp_path: Path, given: Engine | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "model"
    save_package(tiny_model(), package, PackageOptions(96, "scratch"))
    asked = told(monkeypatch, {})
    assert here(package, given).load(package).engine.engine == "pytorch"
    assert not asked
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("harm", ["cut", "gone"])
def test_a_damaged_graph_is_refused_by_name(package: Path, harm: str) -> None:
    graph = package / GRAPH_FILE
    if harm == "cut":
        graph.write_bytes(graph.read_bytes()[:-1])
    else:
        graph.unlink()
    with pytest.raises(CorruptPackage, match=str(graph)):
        here(package).load(package)
