"""Cells: which there are, how they are kept, which do not fit together."""

from pathlib import Path

import pytest

from shared.cli.simulate import read_part
from shared.errors import BadRequest
from shared.simulate.options import Cell, SimulationOptions, cells_of
from shared.simulate.records import CellStore
from shared.simulate.run import is_missing, report, simulate
from shared.tests.simulate.cells import record
from shared.tests.simulate.test_statistics import arms

OPTIONS = SimulationOptions(
    data=Path("data"), strategies=("entropy", "random", "entropy"), seeds=3, rounds=2
)


def test_random_is_always_there_and_no_cell_twice() -> None:
    cells = list(cells_of(OPTIONS))
    plain = [(c.strategy, c.seed) for c in cells if not c.repeat]
    assert plain == [(s, i) for i in range(3) for s in ("random", "entropy")]
    assert [(c.strategy, c.seed) for c in cells if c.repeat] == [("random", 0)]


def test_parts_are_disjoint_and_together_whole() -> None:
    parts = [list(cells_of(OPTIONS, (i, 2))) for i in (1, 2)]
    assert {c.slug for p in parts for c in p} == {c.slug for c in cells_of(OPTIONS)}
    assert not {c.seed for c in parts[0]} & {c.seed for c in parts[1]}


def test_random_may_go_on_longer() -> None:
    cells = list(cells_of(OPTIONS.model_copy(update={"baseline_rounds": 6})))
    assert {(c.strategy, c.n_rounds) for c in cells if not c.repeat} == {
        ("random", 6),
        ("entropy", 2),
    }


def full_pool(n_rounds: int, warm: int | None = 100) -> Cell:
    options = OPTIONS.model_copy(
        update={"full_pool": True, "baseline_rounds": n_rounds, "warm_iterations": warm}
    )
    return next(c for c in cells_of(options) if c.full_pool)


def test_the_whole_pool_is_trained_as_long_as_the_longest_curve() -> None:
    assert full_pool(6).n_rounds == 6
    # Each training begins at the base and all are of one length.
    assert full_pool(6, warm=None).n_rounds == 1


def test_a_whole_pool_that_would_train_for_ever_is_refused() -> None:
    with pytest.raises(ValueError, match="would train for 120,000 iterations"):
        SimulationOptions(
            data=Path("data"), full_pool=True, warm_iterations=400, baseline_rounds=300
        )


def test_a_whole_pool_that_was_trained_too_short_is_missing() -> None:
    done = record("random", 0, [(10, 20, 0.4), (200, 400, 0.6)])
    whole = done.model_copy(update={"cell": full_pool(6)})
    assert not is_missing(full_pool(6), whole)
    assert is_missing(full_pool(7), whole)
    # Not so a curve whose pool is used up.
    assert not is_missing(done.cell.model_copy(update={"n_rounds": 9}), done)


def test_unequal_cells_have_unequal_names() -> None:
    long = "0.8 class_weighted_entropy + 0.2 random"
    names = {
        Cell(strategy=s, seed=1, n_rounds=2, repeat=r, balanced=b).slug
        for s in (long, long.replace("0.2", "0.3"), "random")
        for r in (0, 1)
        for b in (False, True)
    }
    assert len(names) == 12


@pytest.mark.parametrize("text", ["", "1", "0/2", "3/2", "a/b", "1/2/3", "²/²", "1/1234567890"])
def test_a_part_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(BadRequest, match="--part must be i/n"):
        read_part(text)


def test_cells_give_the_same_results_whenever_they_were_made(tmp_path: Path) -> None:
    options = OPTIONS.model_copy(update={"output": tmp_path})
    cells = arms(offset=0.1)
    contents: list[bytes] = []
    for order in (cells, cells[::-1]):
        for cell in order:
            late = cell.model_copy(
                update={"settings": options.settings(), "seconds": len(contents)}
            )
            CellStore(tmp_path / "cells").write(late)
        report(options)
        contents.append((tmp_path / "results.json").read_bytes())
        assert (tmp_path / "curves_images.png").stat().st_size > 10_000
        assert (tmp_path / "results.csv").read_text().count("\n") == 6 * (4 + 3) + 1
    assert contents[0] == contents[1]


def test_a_cell_made_otherwise_is_refused_by_name(tmp_path: Path) -> None:
    options = OPTIONS.model_copy(update={"output": tmp_path})
    store = CellStore(tmp_path / "cells")
    store.write(record("random", 0, [(5, 9, 0.1)], settings=options.settings() | {"budget": 7}))
    with pytest.raises(BadRequest, match=r"random-.*-s0.* has budget = 7, asked for is 20"):
        store.read(options)


def test_a_file_that_is_no_cell_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "cells").mkdir()
    (tmp_path / "cells" / "x.json").write_text("{}")
    with pytest.raises(BadRequest, match=r"x\.json is not a cell"):
        CellStore(tmp_path / "cells").read(OPTIONS)


def test_without_cells_there_is_no_report(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="no finished cell of 'random'"):
        report(OPTIONS.model_copy(update={"output": tmp_path}))


def test_a_cell_that_a_power_cut_left_empty_is_missing(tmp_path: Path) -> None:
    options = OPTIONS.model_copy(update={"output": tmp_path})
    store = CellStore(tmp_path / "cells")
    store.write(record("random", 0, [(5, 9, 0.1)], settings=options.settings()))
    (tmp_path / "cells" / "entropy-s0.json").touch()
    assert [r.cell.strategy for r in store.read(options)] == ["random"]


def test_cells_of_a_seed_that_began_with_unequal_models_are_no_pair(tmp_path: Path) -> None:
    options = OPTIONS.model_copy(update={"output": tmp_path})
    store = CellStore(tmp_path / "cells")
    for name, map50 in (("random", 0.3), ("entropy", 0.45)):
        cell = record(name, 1, [(5, 9, map50), (9, 20, 0.5)], settings=options.settings())
        store.write(cell)
    with pytest.raises(BadRequest, match=r"are no pair: .* seed 1 .* mAP50 0\.4500 and 0\.3000"):
        store.read(options)


def test_cells_of_other_data_are_refused_before_anything_runs(tmp_path: Path) -> None:
    data = tmp_path / "cows"
    data.mkdir()
    (data / "data.yaml").write_text("names: [cow]")
    options = OPTIONS.model_copy(update={"output": tmp_path, "data": data})
    CellStore(tmp_path / "cells").write(
        record("random", 0, [(5, 9, 0.1)], settings=options.settings())
    )
    with pytest.raises(BadRequest, match=r"come from other data \('made-up', 0{12}\) than .*cows"):
        simulate(options, resume=True)
    assert not (tmp_path / "state").exists()


def test_a_folder_of_anothers_is_not_taken_for_a_simulations_state(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "thesis.txt").write_text("years of work")
    options = OPTIONS.model_copy(update={"output": tmp_path, "data": tmp_path / "state"})
    with pytest.raises(BadRequest, match=r"state holds something that no simulation left there"):
        simulate(options, resume=False)
    assert (tmp_path / "state" / "thesis.txt").read_text() == "years of work"
