"""What the pages show is right."""

import pytest

from dashboard.data import (
    active_jobs,
    current_round,
    drift_table,
    duration,
    learning_curve,
    long_curve,
    selection_reasons,
    split_table,
    stages,
    strategy_name,
)
from dashboard.simulation import curves, verdicts
from dashboard.tests.world import START, image, job, project, reason_of, round_view, simulation
from shared.models.data import DatasetVersionView
from shared.models.rounds import RoundPlan, StepView
from shared.models.strategies import RandomStrategy, parse_strategy
from shared.simulate.statistics import summarise
from shared.tests.simulate.test_statistics import arms


def version(number: int, n_images: int, n_boxes: int) -> DatasetVersionView:
    return DatasetVersionView(
        project="scenes",
        version=number,
        content_hash="0" * 64,
        parent=None,
        round_id=None,
        manifest_key="m",
        n_images={"train": n_images, "val": 6},
        n_boxes={"train": n_boxes, "val": 12},
        created_at=START,
    )


def test_no_rounds_make_an_empty_curve_with_its_columns() -> None:
    curve = learning_curve([], [], None)
    assert curve.empty
    assert list(curve.columns)[:4] == ["round", "strategy", "labelled images", "boxes"]


def test_the_curve_has_a_row_per_measured_round_and_marks_production() -> None:
    rounds = [round_view(1, "done"), round_view(2, "done"), round_view(3, "training")]
    curve = learning_curve(rounds, [version(1, 10, 17), version(2, 20, 39)], production=1)
    assert curve["round"].tolist() == [1, 2]
    assert curve["strategy"].tolist() == ["kmeans", "bald, max over boxes"]
    assert curve["labelled images"].tolist() == [10, 20]
    assert curve["boxes"].tolist() == [17, 39]
    assert curve["mAP50"].tolist() == pytest.approx([0.53, 0.66])
    assert curve["production"].tolist() == [True, False]


def test_simulated_curves_have_a_row_per_arm_and_size_with_their_intervals() -> None:
    results = simulation("s", 0.08).results
    table = curves(results, "boxes")
    assert list(table.columns) == ["arm", "mean", "low", "high", "paired", "boxes"]
    assert table["arm"].tolist() == ["random"] * 4 + ["entropy"] * 3
    assert table["boxes"].tolist()[:4] == [20, 40, 60, 80]
    assert (table["low"] < table["mean"]).all()
    assert curves(results, "images")["labelled images"].tolist()[:4] == [10, 20, 30, 40]


def test_a_single_seed_has_a_band_of_no_height_and_no_interval() -> None:
    results = summarise(arms(offset=0.1, n_seeds=1))
    table = curves(results, "images")
    assert table["low"].tolist() == table["mean"].tolist() == table["high"].tolist()
    assert verdicts(results)["mAP50"].tolist() == ["0.717", "0.717"]


def test_verdicts_say_what_was_saved_and_how_sure_that_is() -> None:
    random, entropy = verdicts(simulation("s", 0.08).results).to_dict("records")
    assert random["images at equal mAP50"] == ""
    assert entropy["seeds"] == 6
    assert entropy["vs random, equal images"].startswith("+0.0")
    assert "±" in entropy["vs random, equal images"]
    assert "%" in entropy["images at equal mAP50"]


def test_the_long_curve_has_a_row_per_round_and_metric() -> None:
    curve = learning_curve([round_view(1, "done")], [version(1, 10, 17)], production=None)
    long = long_curve(curve)
    assert long["metric"].tolist() == ["mAP50", "mAP50-95"]
    assert long["quality"].tolist() == pytest.approx([0.53, 0.30])
    assert long["boxes"].tolist() == [17, 17]


def test_stages_before_are_done_and_stages_after_come_later() -> None:
    bar = stages(round_view(2, "labelling", n_done=4))
    assert [(s.name, s.status) for s in bar] == [
        ("scoring", "done"),
        ("selecting", "done"),
        ("labelling", "now"),
        ("training", "later"),
        ("calibrating", "later"),
        ("gating", "later"),
        ("done", "later"),
    ]
    assert [s.note for s in bar][:3] == ["", "", "4 of 10"]
    assert [s.seconds for s in bar][:3] == pytest.approx([3.4, 4.4, None])


def test_a_done_round_has_every_stage_done_and_adds_up_their_seconds() -> None:
    bar = stages(round_view(2, "done"))
    assert {s.status for s in bar} == {"done"}
    # score_heldout and calibrate belong to one stage
    assert bar[4].seconds == pytest.approx(7.4 + 8.4)


@pytest.mark.parametrize(
    ("steps", "n_tasks", "stage"),
    [
        ([], 0, "scoring"),
        ([("score", "succeeded"), ("select", "failed")], 0, "selecting"),
        ([("score", "succeeded"), ("select", "succeeded")], 10, "labelling"),
        ([("select", "succeeded"), ("train", "failed")], 10, "training"),
    ],
)
def test_a_failed_round_shows_where_it_failed(
    steps: list[tuple[str, str]], n_tasks: int, stage: str
) -> None:
    view = round_view(2, "failed", n_tasks=n_tasks).model_copy(
        update={"steps": tuple(StepView(step=s, job_id=s, state=x, seconds=1.0) for s, x in steps)}
    )
    assert [s.name for s in stages(view) if s.status == "failed"] == [stage]


def test_a_round_for_a_held_out_split_ends_with_its_labels() -> None:
    view = round_view(1, "labelling", request=RoundPlan(strategy=RandomStrategy(), purpose="val"))
    assert [s.name for s in stages(view)] == ["scoring", "selecting", "labelling", "done"]


def test_the_current_round_is_the_newest_that_runs_or_else_the_newest() -> None:
    done, running, failed = (
        round_view(1, "done"),
        round_view(2, "training"),
        round_view(3, "failed"),
    )
    assert current_round([]) is None
    assert current_round([done, running, failed]) == running
    assert current_round([done, failed]) == failed


def test_the_split_table_counts_images_labels_and_boxes() -> None:
    table = split_table(project(), version(1, 10, 17))
    assert table["images"].tolist() == [42, 6, 6, 6]
    assert table["labelled"].tolist() == [10, 6, 0, 0]
    assert table["boxes"].tolist() == [17, 12, 0, 0]
    assert split_table(project(0), None)["images"].tolist() == [0, 0, 0, 0]


def test_running_jobs_come_before_waiting_ones_and_ended_ones_are_left_out() -> None:
    waiting, running = job("training.train", 0.0, ""), job("inference.score", 0.5, "")
    ended = running.model_copy(update={"state": "succeeded"})
    assert active_jobs([waiting, ended, running]) == [running, waiting]


def test_drifted_columns_come_first() -> None:
    table = drift_table({"score": 0.4, "n_boxes": 0.2, "sharpness": 0.001}, ("sharpness",))
    assert table["column"].tolist() == ["sharpness", "n_boxes", "score"]
    assert table["drifted"].tolist() == [True, False, False]


def test_the_newest_round_says_why_an_image_was_chosen() -> None:
    reasons = selection_reasons([round_view(1, "done"), round_view(2, "done")])
    assert reasons[image(0).id] == f"Round 1, place 1: {reason_of(1)}"
    assert reasons[image(19).id] == f"Round 2, place 10: {reason_of(2)}"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, ""),
        (0.0434, "43 ms"),
        (4.21, "4.2 s"),
        (41.0, "41 s"),
        (185.0, "3 min 05 s"),
        (7800.0, "2 h 10 min"),
    ],
)
def test_durations_are_read_easily(seconds: float | None, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("random", "random"),
        ("bald", "bald, max over boxes"),
        ("entropy:sum", "entropy, sum over boxes"),
        ("bald:top3", "bald:top3"),
        ("0.8 entropy:sum + 0.2 random", "0.8 entropy:sum + 0.2 random"),
    ],
)
def test_a_strategy_is_named_as_people_read_it(line: str, name: str) -> None:
    assert strategy_name(parse_strategy(line)) == name
