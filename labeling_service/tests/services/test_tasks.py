import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import update

from labeling_service.app.models.errors import (
    AlreadyAnswered,
    LeaseLost,
    NoOpenTask,
    RoundNotLabelling,
    SkippedWithBoxes,
    UnknownClass,
    UnknownRound,
    UnknownTask,
)
from labeling_service.app.models.tables import TaskRow
from labeling_service.tests.support import BOX, World, image_view
from shared.database import utcnow
from shared.errors import NotFound
from shared.models.geometry import Annotation
from shared.models.rounds import AnswerCreate

OTHER_BOX = Annotation(class_id=0, xyxy=(0.5, 0.5, 0.75, 0.75), source="oracle")


def let_leases_run_out(world: World) -> None:
    with world.database.transaction() as session:
        session.execute(update(TaskRow).values(lease_expires_at=utcnow() - timedelta(seconds=1)))


def test_leases_go_by_rank_and_last_fifteen_minutes(world: World) -> None:
    world.labelling_round(n_tasks=3)
    first, second = world.lease("ann"), world.lease("bob")
    assert [first.rank, second.rank] == [1, 2]
    assert (first.state, first.annotator) == ("leased", "ann")
    assert first.lease_expires_at is not None
    left = first.lease_expires_at - utcnow()
    assert timedelta(minutes=14) < left <= timedelta(minutes=15)


def test_asking_again_gives_the_same_task(world: World) -> None:
    world.labelling_round(n_tasks=3)
    assert world.lease("ann").id == world.lease("ann").id


def test_a_lease_that_ran_out_goes_to_the_next(world: World) -> None:
    world.labelling_round(n_tasks=1)
    task = world.lease("ann")
    with pytest.raises(NoOpenTask, match="no open task of project 'digits' for 'bob'"):
        world.lease("bob")
    let_leases_run_out(world)
    taken = world.lease("bob")
    assert (taken.id, taken.annotator) == (task.id, "bob")


def test_nothing_is_leased_before_the_round_is_labelling(world: World) -> None:
    round_id = world.start().id
    world.open_tasks(round_id, 2)
    with pytest.raises(NoOpenTask):
        world.lease()


def test_leases_may_ask_for_one_round(world: World) -> None:
    world.gateway.pool.append(image_view(99, "val"))
    train = world.labelling_round(n_tasks=1)
    val = world.labelling_round(n_tasks=1, purpose="val")
    assert world.lease("ann", round_id=val).round_id == val
    assert world.lease("bob").round_id == train
    with pytest.raises(UnknownRound, match="unknown round: 'r7'"):
        world.lease("ann", round_id="r7")


def test_eight_annotators_never_get_the_same_task(world: World) -> None:
    round_id = world.labelling_round(n_tasks=24)
    done: list[str] = []
    barrier = threading.Barrier(8)

    def annotate(name: str) -> None:
        barrier.wait()
        while True:
            try:
                task = world.lease(name)
            except NoOpenTask:
                return
            world.answer(task.id, name, BOX)
            done.append(task.id)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(annotate, [f"ann{i}" for i in range(8)]))
    assert Counter(done) == Counter(t.id for t in world.tasks.list("digits", round_id))
    assert world.round(round_id).n_done == 24
    assert world.steps(round_id) == ["close", "score", "select"]


def test_one_annotator_asking_from_eight_threads_gets_one_task(world: World) -> None:
    world.labelling_round(n_tasks=10)
    with ThreadPoolExecutor(8) as pool:
        leased = {t.id for t in pool.map(lambda _: world.lease("ann"), range(8))}
    assert len(leased) == 1


def test_an_answer_is_saved_with_its_source(world: World) -> None:
    world.labelling_round()
    task = world.lease()
    saved = world.answer(task.id, "ann", BOX, OTHER_BOX)
    assert (saved.state, saved.annotator, saved.lease_expires_at) == ("labelled", "ann", None)
    assert saved.annotations == (BOX, OTHER_BOX)
    assert world.tasks.get("digits", task.id) == saved


def test_nothing_here_and_skipped_are_different_answers(world: World) -> None:
    round_id = world.labelling_round(n_tasks=3)
    empty = world.answer(world.lease().id)
    skipped = world.answer(world.lease().id, skip=True)
    assert (empty.state, empty.annotations) == ("labelled", ())
    assert skipped.state == "skipped"
    assert world.round(round_id).n_done == 2


def test_the_same_answer_twice_arrives_once(world: World) -> None:
    round_id = world.labelling_round(n_tasks=1)
    task = world.lease()
    first = world.answer(task.id, "ann", BOX)
    assert world.round(round_id).n_done == 1
    assert world.answer(task.id, "ann", BOX) == first


def test_an_annotator_may_correct_an_answer_until_the_round_closes(world: World) -> None:
    round_id = world.labelling_round(n_tasks=2)
    task = world.lease()
    world.answer(task.id, "ann", BOX)
    assert world.answer(task.id, "ann", OTHER_BOX).annotations == (OTHER_BOX,)
    world.answer(world.lease().id)
    with pytest.raises(RoundNotLabelling, match=f"round '{round_id}' takes no answers.*closing"):
        world.answer(task.id, "ann", BOX)
    assert world.tasks.get("digits", task.id).annotations == (OTHER_BOX,)


def test_somebody_elses_answer_stays(world: World) -> None:
    world.labelling_round()
    task = world.lease("ann")
    world.answer(task.id, "ann", BOX)
    with pytest.raises(AlreadyAnswered, match="was answered by 'ann'"):
        world.answer(task.id, "bob", BOX)


def test_an_answer_after_the_lease_ran_out_counts_if_nobody_took_the_task(world: World) -> None:
    world.labelling_round()
    task = world.lease("ann")
    let_leases_run_out(world)
    assert world.answer(task.id, "ann", BOX).state == "labelled"


def test_an_answer_after_somebody_else_took_the_task_is_refused(world: World) -> None:
    world.labelling_round(n_tasks=1)
    task = world.lease("ann")
    let_leases_run_out(world)
    world.lease("bob")
    with pytest.raises(LeaseLost, match="is kept for 'bob' now"):
        world.answer(task.id, "ann", BOX)
    assert world.answer(task.id, "bob", BOX).annotator == "bob"


def test_a_class_outside_the_map_is_named(world: World) -> None:
    world.labelling_round()
    wrong = Annotation(class_id=2, xyxy=(0.1, 0.1, 0.2, 0.2))
    with pytest.raises(UnknownClass, match="class id: 2; project 'digits' has 2 classes, 0 to 1"):
        world.answer(world.lease().id, "ann", BOX, wrong)


def test_a_skipped_task_has_no_boxes(world: World) -> None:
    world.labelling_round()
    with pytest.raises(SkippedWithBoxes, match="but 1 are given"):
        world.answer(world.lease().id, "ann", BOX, skip=True)


def test_a_cancelled_round_takes_no_answers(world: World) -> None:
    round_id = world.labelling_round()
    task = world.lease()
    world.rounds.cancel("digits", round_id)
    with pytest.raises(RoundNotLabelling, match="takes no answers: it is cancelled"):
        world.answer(task.id, "ann", BOX)
    with pytest.raises(NoOpenTask):
        world.lease()


def test_unknown_projects_rounds_and_tasks_are_not_found_by_name(world: World) -> None:
    world.labelling_round()
    task = world.lease()
    with pytest.raises(UnknownTask, match="unknown task: 't7' of project 'digits'"):
        world.tasks.get("digits", "t7")
    with pytest.raises(UnknownTask, match="unknown task: 't7' of project 'digits'"):
        world.answer("t7")
    with pytest.raises(UnknownRound, match="unknown round: 'r7' of project 'digits'"):
        world.tasks.list("digits", "r7")
    with pytest.raises(NotFound, match="unknown project: 'nope'"):
        world.tasks.get("nope", task.id)
    with pytest.raises(NotFound, match="unknown project: 'nope'"):
        world.tasks.answer("nope", task.id, AnswerCreate(annotator="ann"))
    assert world.tasks.get("digits", task.id).state == "leased"


def test_the_last_answer_and_a_cancellation_at_once_leave_one_outcome(world: World) -> None:
    round_id = world.labelling_round(n_tasks=1)
    task = world.lease()

    def answer() -> None:
        try:
            world.answer(task.id, "ann", BOX)
        except RoundNotLabelling:
            return

    with ThreadPoolExecutor(2) as pool:
        answered = pool.submit(answer)
        cancelled = pool.submit(world.rounds.cancel, "digits", round_id)
        answered.result()
        assert cancelled.result().state == "cancelled"
    assert world.round(round_id).state == "cancelled"
    assert world.tasks.get("digits", task.id).state in ("labelled", "closed")
