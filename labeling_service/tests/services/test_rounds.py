from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from labeling_service.app.models.errors import (
    EmptyPool,
    HeldOutNotLabelled,
    NoClasses,
    NoModelYet,
    NotSelectable,
    RoundFinished,
    RoundInProgress,
    UnknownRound,
    UnknownStrategy,
)
from labeling_service.tests.support import BOX, World, image_view
from shared.bases import UnknownBaseModel
from shared.errors import NotFound
from shared.models.rounds import RoundCreate, RoundPlan
from shared.models.strategies import COLD_START, STRATEGY_NAMES, describe, parse_strategy


def test_a_new_round_is_scoring_with_the_base_model_at_cold_start(world: World) -> None:
    created = world.start(strategy={"strategy": "kmeans"}, budget=5, seed=3)
    assert (created.index, created.state, created.n_tasks) == (1, "scoring", 0)
    assert created.request == RoundPlan.model_validate(
        {"strategy": {"strategy": "kmeans"}, "budget": 5, "seed": 3}
    )
    assert world.job(created.id, "score").payload["model_version"] is None
    assert world.round(created.id) == created
    assert world.rounds.list("digits") == [created]


def test_rounds_are_numbered_within_the_project(world: World) -> None:
    first = world.start()
    world.rounds.cancel("digits", first.id)
    assert world.start().index == 2
    assert [r.index for r in world.rounds.list("digits")] == [1, 2]


def test_a_project_without_rounds_has_an_empty_list(world: World) -> None:
    assert list(world.rounds.list("digits")) == []


def test_unknown_projects_and_rounds_are_not_found_by_name(world: World) -> None:
    round_id = world.start().id
    with pytest.raises(NotFound, match="unknown project: 'nope'"):
        world.rounds.create("nope", RoundCreate())
    with pytest.raises(NotFound, match="unknown project: 'nope'"):
        world.rounds.list("nope")
    with pytest.raises(NotFound, match="unknown project: 'nope'"):
        world.rounds.get("nope", round_id)
    with pytest.raises(UnknownRound, match="unknown round: 'r7'"):
        world.rounds.get("digits", "r7")
    with pytest.raises(UnknownRound, match="unknown round: 'r7'"):
        world.rounds.cancel("digits", "r7")


def test_who_asks_for_no_strategy_gets_the_one_that_is_proven(world: World) -> None:
    def strategy(**request: Any) -> str:
        created = world.start(strategy=None, **request)
        world.rounds.cancel("digits", created.id)
        assert world.round(created.id).request == created.request
        return describe(created.request.strategy)

    world.gateway.pool += [image_view(90, "val"), image_view(91, "gate")]
    assert strategy() == "kmeans"
    assert strategy(purpose="val") == "random"
    world.gateway.models = (3,)
    assert strategy(scored_by=3) == "class_weighted_entropy"
    world.gateway.production = 3
    assert strategy() == "class_weighted_entropy"
    assert strategy(purpose="gate") == "random"


NEED_A_MODEL = [name for name in STRATEGY_NAMES if name not in COLD_START]


@pytest.mark.parametrize("line", [*NEED_A_MODEL, "0.8 entropy + 0.2 random"])
def test_whatever_looks_at_boxes_needs_a_production_model_and_says_what_to_do(
    world: World, line: str
) -> None:
    strategy = parse_strategy(line)
    with pytest.raises(NoModelYet, match="use 'random' or 'kmeans' for the first round"):
        world.start(strategy=strategy)
    assert list(world.rounds.list("digits")) == []
    world.gateway.production = 1
    assert world.start(strategy=strategy).state == "scoring"


@pytest.mark.parametrize("line", [*sorted(COLD_START), "0.5 typiclust + 0.5 random"])
def test_a_cold_start_needs_no_model(world: World, line: str) -> None:
    assert world.start(strategy=parse_strategy(line)).state == "scoring"


def test_a_budget_in_boxes_needs_a_model_that_expects_them(world: World) -> None:
    with pytest.raises(NoModelYet, match=r"a budget in boxes needs .* give one in images"):
        world.start(budget=40, budget_unit="boxes")
    world.gateway.production = 1
    assert world.start(budget=40, budget_unit="boxes").request.budget_unit == "boxes"


def test_a_held_out_round_has_a_budget_in_images(world: World) -> None:
    world.gateway.production = 1
    world.gateway.pool = [image_view(1, "gate")]
    with pytest.raises(NotSelectable, match="a gate round expects no boxes"):
        world.start(purpose="gate", budget_unit="boxes")


def test_a_strategy_that_is_not_installed_is_refused_before_anything_is_scored(
    world: World,
) -> None:
    with pytest.raises(UnknownStrategy, match="no strategy 'mine' is installed"):
        world.start(strategy={"strategy": "custom", "name": "mine"})
    assert list(world.rounds.list("digits")) == []


def test_an_empty_pool_is_refused(world: World) -> None:
    world.gateway.pool = [image_view(1, labelled=True), image_view(2, "test")]
    with pytest.raises(EmptyPool, match="no unlabelled image of split 'train' left"):
        world.start()


def test_a_project_without_classes_is_refused(world: World) -> None:
    world.gateway.classes = ()
    with pytest.raises(NoClasses, match="project 'digits' has no classes yet"):
        world.start()


def test_a_train_round_without_labelled_held_out_images_is_refused_and_says_what_to_do(
    world: World,
) -> None:
    world.gateway.n_labelled = {"val": 2, "gate": 0}
    with pytest.raises(
        HeldOutNotLabelled,
        match=r"project 'digits' has no labelled image of gate, test, .* label some by rounds with",
    ):
        world.start()
    world.gateway.latest_version = None
    with pytest.raises(HeldOutNotLabelled, match="no labelled image of val, gate, test, and"):
        world.start()
    world.gateway.pool.append(image_view(99, "gate"))
    assert world.start(purpose="gate").state == "selecting"


@pytest.mark.parametrize("base", ["yolov8x.pt", "..", "/etc", "fovea-digits/", ""])
def test_an_unknown_base_model_is_refused_and_the_known_ones_are_named(
    world: World, base: str
) -> None:
    with pytest.raises(
        UnknownBaseModel, match=r"known are fovea-digits, scratch, yolov8n\.pt"
    ) as e:
        world.start(training={"base": base})
    assert repr(base) in str(e.value)
    assert e.value.status == 400


@pytest.mark.parametrize("base", [None, "scratch", "yolov8n.pt", "fovea-digits"])
def test_every_known_base_model_is_taken(world: World, base: str | None) -> None:
    assert world.start(training={"base": base}).request.training.base == base


def test_held_out_rounds_choose_at_random_only(world: World) -> None:
    world.gateway.pool = [image_view(1, "gate")]
    with pytest.raises(NotSelectable, match="a gate round chooses at random, not by 'kmeans'"):
        world.start(purpose="gate", strategy={"strategy": "kmeans"})


def test_the_model_version_asked_for_scores_the_pool_instead_of_production(world: World) -> None:
    world.gateway.models = (2, 5)
    created = world.start(strategy={"strategy": "entropy"}, scored_by=2)
    assert world.job(created.id, "score").payload["model_version"] == 2
    world.rounds.cancel("digits", created.id)
    world.gateway.production = 5
    created = world.start(strategy={"strategy": "random"}, scored_by=2)
    assert world.job(created.id, "score").payload["model_version"] == 2


def test_an_unknown_model_version_cannot_score_the_pool(world: World) -> None:
    world.gateway.models = (2,)
    with pytest.raises(NotFound, match="unknown model version: 7 of project 'digits'"):
        world.start(scored_by=7)
    assert list(world.rounds.list("digits")) == []


def test_a_held_out_round_takes_no_model_that_scores(world: World) -> None:
    world.gateway.pool = [image_view(1, "gate")]
    world.gateway.models = (2,)
    with pytest.raises(NotSelectable, match="a gate round scores nothing: scored_by 2"):
        world.start(purpose="gate", scored_by=2)


def test_a_second_unfinished_round_is_refused_and_names_the_first(world: World) -> None:
    first = world.start()
    with pytest.raises(RoundInProgress, match=f"round '{first.id}' .number 1, train.* 'digits' is"):
        world.start()
    world.gateway.pool.append(image_view(99, "val"))
    assert world.start(purpose="val").state == "selecting"
    world.rounds.cancel("digits", first.id)
    assert world.start().index == 3


def test_of_eight_requests_at_once_one_makes_the_round(world: World) -> None:
    def start(_: int) -> str:
        try:
            return world.start().id
        except RoundInProgress:
            return ""

    with ThreadPoolExecutor(8) as pool:
        made = [round_id for round_id in pool.map(start, range(8)) if round_id]
    assert len(made) == 1
    assert [r.id for r in world.rounds.list("digits")] == made


def test_cancelling_stops_the_job_closes_open_tasks_and_keeps_answers(world: World) -> None:
    round_id = world.labelling_round(n_tasks=3)
    answered = world.lease()
    world.answer(answered.id, "ann", BOX)
    world.lease()
    cancelled = world.rounds.cancel("digits", round_id)
    assert (cancelled.state, cancelled.n_tasks, cancelled.n_done) == ("cancelled", 3, 1)
    tasks = world.tasks.list("digits", round_id)
    assert [t.state for t in tasks] == ["labelled", "closed", "closed"]
    assert tasks[0].annotations == (BOX,)
    assert world.rounds.cancel("digits", round_id) == cancelled
    world.reconciler.reconcile(round_id)
    assert world.round(round_id) == cancelled


def test_cancelling_asks_a_running_job_to_stop(world: World) -> None:
    round_id = world.start().id
    world.jobs.claim(world.job(round_id, "score").id, "worker")
    assert world.rounds.cancel("digits", round_id).state == "cancelled"
    assert world.job(round_id, "score").cancel_requested


def test_a_round_that_moves_while_it_is_cancelled_is_cancelled_where_it_got_to(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    round_id = world.start().id
    cancel_job = world.rounds._cancel_job

    def end_meanwhile(row: Any) -> None:
        monkeypatch.undo()
        world.finish(round_id, "score")
        cancel_job(row)
        world.reconciler.reconcile(round_id)

    monkeypatch.setattr(world.rounds, "_cancel_job", end_meanwhile)
    assert world.rounds.cancel("digits", round_id).state == "cancelled"
    assert world.job(round_id, "select").state == "cancelled"


def test_a_finished_round_cannot_be_cancelled(world: World) -> None:
    round_id = world.start().id
    world.fail(round_id, "score", "boom")
    world.reconciler.reconcile(round_id)
    with pytest.raises(RoundFinished, match=f"round '{round_id}' is already failed"):
        world.rounds.cancel("digits", round_id)
