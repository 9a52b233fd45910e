"""What every labelling back end must do; subclassed once per adapter."""

from collections.abc import Callable
from dataclasses import replace

from labeling_service.app.core.labelling.port import (
    Answer,
    Labelling,
    LabellingRound,
    NewTask,
    Progress,
)
from shared.models.geometry import Annotation, Detection

# How an annotator answers in this back end: round, what they say.
Annotate = Callable[[LabellingRound, Answer], None]

PRE_DRAWN = Detection(class_id=1, xyxy=(0.125, 0.25, 0.5, 0.75), score=0.9)
TASKS = [
    NewTask("a" * 64, rank=1, reason="entropy 1.084 nats", pre_annotations=(PRE_DRAWN,)),
    NewTask("b" * 64, rank=2, reason="entropy 0.500 nats"),
    NewTask("c" * 64, rank=3, reason="entropy 0.250 nats"),
]
# Chosen so that a mix-up of axes, corners, percent or class order changes it.
BOXES = (
    Annotation(class_id=0, xyxy=(0.0, 0.25, 0.5, 1.0), source="human"),
    Annotation(class_id=2, xyxy=(0.125, 0.0625, 0.25, 0.9375), source="oracle"),
    Annotation(class_id=1, xyxy=(0.5, 0.5, 0.75, 0.625), source="model"),
)


class LabellingContract:
    """Fixtures of a subclass: `labelling`, `labelling_round` (three classes), `annotate`."""

    def test_an_unknown_round_has_no_tasks_and_is_not_complete(self, labelling: Labelling) -> None:
        progress = labelling.progress("nowhere")
        assert progress == Progress(n_tasks=0, n_labelled=0, n_skipped=0)
        assert not progress.complete
        assert list(labelling.answers("nowhere")) == []

    def test_an_opened_round_has_its_tasks_unanswered(
        self, labelling: Labelling, labelling_round: LabellingRound
    ) -> None:
        labelling.open_round(labelling_round, TASKS)
        assert labelling.progress(labelling_round.id) == Progress(3, 0, 0)
        assert list(labelling.answers(labelling_round.id)) == []

    def test_opening_twice_makes_each_task_once(
        self, labelling: Labelling, labelling_round: LabellingRound
    ) -> None:
        labelling.open_round(labelling_round, TASKS[:2])
        labelling.open_round(labelling_round, TASKS)
        assert labelling.progress(labelling_round.id) == Progress(3, 0, 0)

    def test_opening_again_keeps_answers(
        self, labelling: Labelling, labelling_round: LabellingRound, annotate: Annotate
    ) -> None:
        labelling.open_round(labelling_round, TASKS)
        given = Answer("a" * 64, "labelled", BOXES, "ann")
        annotate(labelling_round, given)
        labelling.open_round(labelling_round, [replace(t, reason="other") for t in TASKS])
        assert list(labelling.answers(labelling_round.id)) == [given]

    def test_progress_counts_labelled_and_skipped(
        self, labelling: Labelling, labelling_round: LabellingRound, annotate: Annotate
    ) -> None:
        labelling.open_round(labelling_round, TASKS)
        annotate(labelling_round, Answer("b" * 64, "labelled", (), "ann"))
        assert labelling.progress(labelling_round.id) == Progress(3, 1, 0)
        annotate(labelling_round, Answer("a" * 64, "skipped", (), "bob"))
        assert labelling.progress(labelling_round.id) == Progress(3, 1, 1)
        assert not labelling.progress(labelling_round.id).complete
        annotate(labelling_round, Answer("c" * 64, "labelled", BOXES, "ann"))
        assert labelling.progress(labelling_round.id) == Progress(3, 2, 1)
        assert labelling.progress(labelling_round.id).complete

    def test_boxes_classes_and_sources_come_back_as_they_were_given(
        self, labelling: Labelling, labelling_round: LabellingRound, annotate: Annotate
    ) -> None:
        labelling.open_round(labelling_round, TASKS)
        given = Answer("b" * 64, "labelled", BOXES, "ann")
        annotate(labelling_round, given)
        assert list(labelling.answers(labelling_round.id)) == [given]

    def test_answers_come_in_the_order_of_rank_and_reading_twice_gives_the_same(
        self, labelling: Labelling, labelling_round: LabellingRound, annotate: Annotate
    ) -> None:
        labelling.open_round(labelling_round, TASKS)
        answers = [
            Answer("a" * 64, "labelled", BOXES, "ann"),
            Answer("b" * 64, "skipped", (), "bob"),
            Answer("c" * 64, "labelled", (), "ann"),
        ]
        for answer in reversed(answers):
            annotate(labelling_round, answer)
        assert list(labelling.answers(labelling_round.id)) == answers
        assert list(labelling.answers(labelling_round.id)) == answers

    def test_the_skipped_images_of_a_project_are_known(
        self, labelling: Labelling, labelling_round: LabellingRound, annotate: Annotate
    ) -> None:
        labelling.open_round(labelling_round, TASKS)
        annotate(labelling_round, Answer("a" * 64, "skipped", (), "ann"))
        annotate(labelling_round, Answer("b" * 64, "labelled", (), "ann"))
        assert set(labelling.skipped(labelling_round.project)) == {"a" * 64}
        assert set(labelling.skipped("another")) == set()

    def test_a_closed_round_keeps_its_answers_and_closing_twice_is_fine(
        self, labelling: Labelling, labelling_round: LabellingRound, annotate: Annotate
    ) -> None:
        labelling.open_round(labelling_round, TASKS)
        given = Answer("a" * 64, "labelled", BOXES, "ann")
        annotate(labelling_round, given)
        labelling.close_round(labelling_round.id)
        labelling.close_round(labelling_round.id)
        assert list(labelling.answers(labelling_round.id)) == [given]
