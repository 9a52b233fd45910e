import pytest

from labeling_service.app.core.labelling.port import Answer, Labelling, LabellingRound
from labeling_service.app.models.tables import RoundRow
from labeling_service.tests.contract import PRE_DRAWN, TASKS, Annotate, LabellingContract
from labeling_service.tests.support import World
from shared.models.rounds import RoundPlan
from shared.models.strategies import RandomStrategy


class TestBuiltinLabelling(LabellingContract):
    @pytest.fixture
    def labelling(self, world: World) -> Labelling:
        return world.labelling

    @pytest.fixture
    def labelling_round(self, world: World) -> LabellingRound:
        classes = ("three", "nine", "four")
        with world.database.transaction() as session:
            session.add(
                RoundRow(
                    id="r1",
                    project="digits",
                    index=1,
                    purpose="train",
                    state="labelling",
                    step="label",
                    request=RoundPlan(strategy=RandomStrategy()).model_dump(mode="json"),
                    classes=list(classes),
                )
            )
        return LabellingRound("r1", "digits", classes)

    @pytest.fixture
    def annotate(self, world: World) -> Annotate:
        def answer(labelling_round: LabellingRound, given: Answer) -> None:
            tasks = world.tasks.list(labelling_round.project, labelling_round.id)
            task = next(t for t in tasks if t.image_id == given.image_id)
            skip = given.outcome == "skipped"
            world.answer(task.id, given.annotator, *given.annotations, skip=skip)

        return answer

    def test_a_task_shows_rank_reason_and_pre_drawn_boxes(
        self, world: World, labelling: Labelling, labelling_round: LabellingRound
    ) -> None:
        labelling.open_round(labelling_round, TASKS)
        first, *others = world.tasks.list("digits", "r1")
        assert (first.image_id, first.rank, first.state) == ("a" * 64, 1, "open")
        assert first.reason == "entropy 1.084 nats"
        assert first.pre_annotations == (PRE_DRAWN,)
        assert [t.rank for t in others] == [2, 3]

    def test_closing_closes_only_what_nobody_answered(
        self, world: World, labelling_round: LabellingRound, labelling: Labelling
    ) -> None:
        labelling.open_round(labelling_round, TASKS)
        first = world.lease()
        world.answer(first.id)
        world.lease()
        labelling.close_round("r1")
        states = [t.state for t in world.tasks.list("digits", "r1")]
        assert states == ["labelled", "closed", "closed"]
