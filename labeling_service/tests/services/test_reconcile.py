"""The round machine, driven by jobs that are finished by hand, on SQLite and on PostgreSQL."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy.orm import Session

from labeling_service.app.services.reconcile import Reconciler
from labeling_service.tests.support import World
from shared.jobs.store import JobSubmit
from shared.models.jobs import JobView

ALL_STEPS = ["calibrate", "close", "gate", "score", "score_heldout", "select", "train"]


def run_to(world: World, round_id: str, *steps: str) -> None:
    for step in steps:
        world.finish(round_id, step)
        world.reconciler.reconcile(round_id)


def test_a_round_goes_from_scoring_to_done_step_by_step(world: World) -> None:
    round_id = world.labelling_round()
    world.answer_all(round_id)
    states = [world.round(round_id).state]
    for step in ("close", "train", "score_heldout", "calibrate", "gate"):
        run_to(world, round_id, step)
        states.append(world.round(round_id).state)
    assert states == ["labelling", "training", "calibrating", "calibrating", "gating", "done"]
    done = world.round(round_id)
    assert (done.dataset_version, done.model_version, done.promoted) == (3, 5, True)
    assert done.metrics == {"map50": 0.5, "map50_95": 0.25, "map50/nine": 0.5}
    assert done.error is None
    assert done.finished_at is not None
    assert [s.step for s in done.steps] == [
        "score",
        "select",
        "close",
        "train",
        "score_heldout",
        "calibrate",
        "gate",
    ]
    assert {s.state for s in done.steps} == {"succeeded"}


def test_every_job_is_told_what_it_needs(world: World) -> None:
    world.gateway.production = 4
    training = {"epochs": 3, "seed": 7}
    round_id = world.labelling_round(training=training, auto_promote=False)
    world.answer_all(round_id)
    run_to(world, round_id, "close", "train", "score_heldout", "calibrate", "gate")
    told = {j.step: (j.kind, j.payload) for j in world.jobs.list(round_id=round_id)}
    assert told["score"] == (
        "inference.score",
        {
            "model_version": 4,
            "splits": ["train"],
            "unlabelled_only": True,
            "n_passes": 10,
            "consistency": False,
        },
    )
    assert told["select"] == ("labeling.select", {"round_id": round_id})
    assert told["close"] == ("labeling.close", {"round_id": round_id})
    kind, payload = told["train"]
    assert kind == "training.train"
    assert (payload["dataset_version"], payload["round_id"]) == (3, round_id)
    assert (payload["params"]["epochs"], payload["params"]["seed"]) == (3, 7)
    kind, payload = told["score_heldout"]
    assert kind == "inference.score"
    assert (payload["model_version"], payload["splits"]) == (5, ["val", "gate", "test"])
    assert told["calibrate"] == (
        "calibration.calibrate",
        {"model_version": 5, "dataset_version": 3},
    )
    assert told["gate"] == (
        "calibration.gate",
        {"model_version": 5, "dataset_version": 3, "promote": False},
    )


def test_core_set_rounds_score_labelled_images_too(world: World) -> None:
    round_id = world.start(strategy={"strategy": "coreset"}).id
    assert world.job(round_id, "score").payload["unlabelled_only"] is False


@pytest.mark.parametrize("purpose", ["val", "gate", "test"])
def test_a_held_out_round_starts_with_the_choice_and_ends_with_the_labels(
    world: World, purpose: Any
) -> None:
    world.gateway.pool = [i.model_copy(update={"split": purpose}) for i in world.gateway.pool]
    round_id = world.labelling_round(purpose=purpose)
    world.answer_all(round_id)
    run_to(world, round_id, "close")
    done = world.round(round_id)
    assert (done.state, done.dataset_version, done.model_version) == ("done", 3, None)
    assert world.steps(round_id) == ["close", "select"]


def test_a_round_that_stops_after_training_is_done_with_its_measured_model(world: World) -> None:
    round_id = world.labelling_round(stop_after="training")
    world.answer_all(round_id)
    run_to(world, round_id, "close", "train")
    done = world.round(round_id)
    assert (done.state, done.dataset_version, done.model_version) == ("done", 3, 5)
    assert done.metrics == {"map50": 0.5, "map50_95": 0.25, "map50/nine": 0.5}
    assert (done.promoted, done.error) == (None, None)
    assert done.finished_at is not None
    assert world.steps(round_id) == ["close", "select", "train"]
    assert world.reconciler.sweep() == 0


def test_a_round_waits_while_its_job_runs(world: World) -> None:
    round_id = world.start().id
    world.reconciler.reconcile(round_id)
    assert world.jobs.claim(world.job(round_id, "score").id, "worker") is not None
    world.reconciler.reconcile(round_id)
    assert world.round(round_id).state == "scoring"
    assert world.steps(round_id) == ["score"]


def test_a_round_waits_for_its_last_answer(world: World) -> None:
    round_id = world.labelling_round(n_tasks=2)
    world.answer(world.lease().id)
    world.reconciler.reconcile(round_id)
    assert world.steps(round_id) == ["score", "select"]
    world.answer(world.lease().id, skip=True)
    assert world.steps(round_id) == ["close", "score", "select"]


def test_a_failed_job_fails_the_round_with_step_and_error(world: World) -> None:
    round_id = world.start().id
    world.fail(round_id, "score", "ValueError: no images")
    world.reconciler.reconcile(round_id)
    failed = world.round(round_id)
    assert (failed.state, failed.error) == ("failed", "step 'score' failed: ValueError: no images")
    assert failed.finished_at is not None


def test_a_job_cancelled_by_hand_cancels_the_round(world: World) -> None:
    round_id = world.start().id
    world.jobs.cancel(world.job(round_id, "score").id)
    world.reconciler.reconcile(round_id)
    cancelled = world.round(round_id)
    assert cancelled.state == "cancelled"
    assert cancelled.error == "the job of step 'score' was cancelled"


def test_a_result_nobody_can_read_fails_the_round(world: World) -> None:
    round_id = world.labelling_round()
    world.answer_all(round_id)
    world.finish(round_id, "close", dataset_version="many")
    world.reconciler.reconcile(round_id)
    failed = world.round(round_id)
    assert failed.state == "failed"
    assert "step 'close' left an unreadable result" in (failed.error or "")


def test_reconciling_an_unknown_round_does_nothing(world: World) -> None:
    world.reconciler.reconcile("r7")


def test_reconciling_twice_inserts_nothing_twice(world: World) -> None:
    round_id = world.start().id
    world.finish(round_id, "score")
    world.reconciler.reconcile(round_id)
    first = world.job(round_id, "select")
    world.reconciler.reconcile(round_id)
    assert world.job(round_id, "select").id == first.id
    assert world.steps(round_id) == ["score", "select"]


def test_eight_reconcilers_at_once_make_every_job_once(world: World) -> None:
    round_id = world.labelling_round()
    world.answer_all(round_id)
    with ThreadPoolExecutor(8) as pool:
        for step in ("close", "train", "score_heldout", "calibrate", "gate"):
            world.finish(round_id, step)
            list(pool.map(world.reconciler.reconcile, [round_id] * 8))
    assert world.round(round_id).state == "done"
    assert world.steps(round_id) == ALL_STEPS


def test_a_reconciler_that_is_too_late_changes_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It read `scoring`; before it writes, another one has moved the round two steps on."""
    round_id = world.start().id
    world.finish(round_id, "score")
    other = Reconciler(world.database, world.jobs, world.labelling)
    late_apply = world.reconciler._apply

    def apply_late(row: Any, change: Any) -> None:
        monkeypatch.undo()
        other.reconcile(round_id)
        world.finish(round_id, "select")
        other.reconcile(round_id)
        late_apply(row, change)

    monkeypatch.setattr(world.reconciler, "_apply", apply_late)
    world.reconciler.reconcile(round_id)
    assert world.round(round_id).state == "labelling"
    assert world.steps(round_id) == ["score", "select"]


@pytest.mark.parametrize("step", ["score", "close", "train", "score_heldout", "calibrate"])
def test_a_death_before_the_commit_leaves_the_round_where_it_was(
    world: World, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """The compare-and-set and the next job are one transaction: neither without the other."""
    if step == "score":
        round_id = world.start().id
    else:
        round_id = world.labelling_round()
        world.answer_all(round_id)
        order = ["close", "train", "score_heldout", "calibrate"]
        run_to(world, round_id, *order[: order.index(step)])
    world.finish(round_id, step)
    before, jobs_before = world.round(round_id), world.steps(round_id)

    submit = world.jobs.submit

    def die(session: Session, job: JobSubmit) -> JobView:
        submit(session, job)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(world.jobs, "submit", die)
        with pytest.raises(KeyboardInterrupt):
            world.reconciler.reconcile(round_id)
    assert world.round(round_id) == before
    assert world.steps(round_id) == jobs_before
    assert world.reconciler.sweep() == 1
    assert len(world.steps(round_id)) == len(jobs_before) + 1


def test_a_lost_job_row_is_made_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def lose(session: Session, job: JobSubmit) -> JobView | None:
        return None

    with monkeypatch.context() as patch:
        patch.setattr(world.jobs, "submit", lose)
        round_id = world.start().id
    assert world.steps(round_id) == []
    world.reconciler.reconcile(round_id)
    assert world.steps(round_id) == ["score"]


def test_the_sweep_moves_every_unfinished_round(world: World) -> None:
    pool = world.gateway.pool
    held_out = [pool[0].model_copy(update={"split": s, "id": s * 16}) for s in ("val", "test")]
    world.gateway.pool = [*pool, *held_out]
    train = world.start().id
    val = world.start(purpose="val").id
    test = world.start(purpose="test").id
    world.finish(train, "score")
    world.finish(val, "select")
    world.fail(test, "select", "boom")
    assert world.reconciler.sweep() == 3
    states = [world.round(r).state for r in (train, val, test)]
    assert states == ["selecting", "labelling", "failed"]
    assert world.reconciler.sweep() == 2
