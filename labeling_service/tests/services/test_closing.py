import pytest

from labeling_service.app.models.errors import NothingLabelled
from labeling_service.app.models.schemas import ClosingResult
from labeling_service.app.services.closing import Closer
from labeling_service.tests.support import BOX, World, image_id
from shared.models.data import LabelledImage


@pytest.fixture
def closer(world: World) -> Closer:
    return Closer(world.database, world.gateway, world.labelling)


def test_closing_sends_the_labels_once_and_leaves_skipped_images_out(
    world: World, closer: Closer
) -> None:
    round_id = world.labelling_round(n_tasks=3)
    world.answer(world.lease().id, "ann", BOX)
    world.answer(world.lease().id, skip=True)
    world.answer(world.lease().id)
    result = closer.close(round_id)
    assert closer.close(round_id) == result
    assert result == ClosingResult(
        round_id=round_id, dataset_version=1, n_labelled=2, n_skipped=1, n_boxes=1
    )
    [sent] = world.gateway.closed
    assert sent.round_id == round_id
    assert sent.labels == (
        LabelledImage(image_id=image_id(0), annotations=(BOX,)),
        LabelledImage(image_id=image_id(2), annotations=()),
    )


def test_a_round_whose_tasks_were_all_skipped_cannot_be_closed(
    world: World, closer: Closer
) -> None:
    round_id = world.labelling_round(n_tasks=2)
    for _ in range(2):
        world.answer(world.lease().id, skip=True)
    with pytest.raises(NothingLabelled, match=f"round '{round_id}': all 2 tasks were skipped"):
        closer.close(round_id)
    assert world.gateway.closed == []
