import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from annotated_types import Le
from pydantic import BaseModel, ValidationError

from shared.demo.options import DemoOptions, read_options
from shared.demo.run import DemoRunning, PeakMemory, check_data, empty_output, main, run_demo
from shared.errors import BadRequest
from shared.local.stack import EmbeddedStack
from shared.models.geometry import MAX_INTEGER
from shared.models.rounds import RoundCreate, TrainingParams
from shared.tests.local.processes import HOLDS_LOCK, member, supervisor


@pytest.fixture
def _same_signals() -> Iterator[None]:
    """Put the handler back that `main` replaces."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def test_options_that_are_not_set_or_empty_are_the_defaults() -> None:
    assert read_options({}) == DemoOptions()
    assert read_options({"DATA": "", "SEED": ""}) == DemoOptions()


def test_options_are_read_by_their_names_in_capitals() -> None:
    given = {"DATA": "my/images", "ROUNDS": "2", "BUDGET": "7", "EPOCHS": "3", "SEED": "9"}
    options = read_options({**given, "STRATEGY": "coreset", "rounds": "50", "HOME": "/root"})
    assert options == DemoOptions(
        data=Path("my/images"), rounds=2, budget=7, epochs=3, seed=9, strategy="coreset"
    )
    assert (options.image_size, DemoOptions().image_size) == (320, 160)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ROUNDS", "0"),
        ("ROUNDS", "51"),
        ("BUDGET", "many"),
        ("EPOCHS", "-1"),
        ("SEED", "-1"),
        ("SEED", str(MAX_INTEGER)),
        ("STRATEGY", "typo"),
    ],
)
def test_an_option_that_does_not_fit_is_refused_by_name_and_value(name: str, value: str) -> None:
    with pytest.raises(ValidationError) as refused:
        read_options({name: value})
    (problem,) = refused.value.errors()
    assert (problem["loc"], problem["input"]) == ((name.lower(),), value)


def test_the_options_have_the_limits_of_a_round_and_its_training() -> None:
    def limits(model: type[BaseModel], name: str) -> list[object]:
        return [m.le for m in model.model_fields[name].metadata if isinstance(m, Le)]

    assert limits(DemoOptions, "budget") == limits(RoundCreate, "budget") == [100_000]
    assert limits(DemoOptions, "epochs") == limits(TrainingParams, "epochs") == [1000]


@pytest.mark.usefixtures("_same_signals")
def test_the_demo_says_which_variable_is_wrong(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ROUNDS", "0")
    assert main() == 2
    assert capsys.readouterr().err.startswith("error: ROUNDS='0': ")


def test_data_that_is_not_there_is_refused(tmp_path: Path) -> None:
    data = tmp_path / "nothing"
    with pytest.raises(BadRequest, match=f"DATA: no such file or folder: {data}"):
        check_data(DemoOptions(data=data, output=tmp_path / "demo"))


@pytest.mark.parametrize("folder", ["demo", "demo/data", "demo/../demo/data"])
def test_data_that_the_demo_would_delete_is_refused(tmp_path: Path, folder: str) -> None:
    (tmp_path / "demo" / "data").mkdir(parents=True)
    with pytest.raises(BadRequest, match="which every demo empties"):
        check_data(DemoOptions(data=tmp_path / folder, output=tmp_path / "demo"))


def test_digits_and_data_beside_the_output_are_accepted(tmp_path: Path) -> None:
    (tmp_path / "demo-data").mkdir()
    check_data(DemoOptions(output=tmp_path / "demo"))
    check_data(DemoOptions(data=tmp_path / "demo-data", output=tmp_path / "demo"))


def test_a_second_demo_is_refused_and_touches_nothing_of_the_first(tmp_path: Path) -> None:
    output = tmp_path / "demo"
    state = output / "state"
    state.mkdir(parents=True)
    (output / "ingestion.json").write_text("of the first")
    with member(tmp_path, HOLDS_LOCK, str(tmp_path / "demo.lock")), supervisor(state) as first:
        with pytest.raises(DemoRunning, match=f"a demo runs already in {output}"):
            run_demo(DemoOptions(output=output, seed=1))
        assert first.poll() is None
    assert (output / "ingestion.json").read_text() == "of the first"


def test_what_an_earlier_demo_left_running_is_stopped_and_this_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = DemoOptions(output=tmp_path / "demo")
    state = options.output / "state"
    state.mkdir(parents=True)
    with supervisor(state):
        empty_output(options)
        assert not EmbeddedStack(state).is_running()
    said = "".join(capsys.readouterr().out.split())
    assert said == "".join(f"stopping the stack that runs in {state}".split())
    assert list(options.output.iterdir()) == []


def test_peak_memory_counts_the_stack_and_this_process(tmp_path: Path) -> None:
    kept = "kept = b'x' * 200_000_000; import time; print('up', flush=True); time.sleep(120)"
    with supervisor(tmp_path, kept), PeakMemory(EmbeddedStack(tmp_path)) as memory:
        deadline = time.monotonic() + 30
        while memory.peak_mb == 0.0:
            assert time.monotonic() < deadline
            time.sleep(0.1)
    # The tests' own process, with everything that the demo imports, is above 50 MB.
    assert memory.peak_mb > 250
