"""The job `labeling.select`: choose the images of a round and offer them to annotators."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import structlog
from sqlalchemy import update

from labeling_service.app.core.gateway import Gateway
from labeling_service.app.core.labelling.port import Labelling, LabellingRound, NewTask
from labeling_service.app.core.strategies.build import build
from labeling_service.app.core.strategies.needs import needs_of
from labeling_service.app.core.strategies.pool import Acquisition
from labeling_service.app.core.strategies.taking import Budget, take
from labeling_service.app.models.errors import EmptyPool, NothingExpected
from labeling_service.app.models.schemas import SelectionResult
from labeling_service.app.models.tables import RoundRow
from labeling_service.app.services.class_record import read_classes, unknown
from labeling_service.app.services.scored_pool import (
    PoolReading,
    read_detections,
    read_pool,
    unread,
)
from labeling_service.app.services.steps import request_of
from shared.database import Database
from shared.models.geometry import Detection
from shared.models.rounds import RoundPlan, SelectedImage
from shared.models.strategies import RandomStrategy
from shared.objects.port import ObjectStore
from shared.predictions import read_shards

log = structlog.stdlib.get_logger()

# Of images that are left out, so many are named in full.
N_NAMED = 3


@dataclass(frozen=True)
class Selection:
    """The images of a round, and what was not as asked for."""

    images: tuple[SelectedImage, ...]
    note: str | None


class Selector:
    """Chooses the images of rounds."""

    def __init__(
        self, database: Database, store: ObjectStore, gateway: Gateway, labelling: Labelling
    ) -> None:
        """Read shards from `store` and the pool from `gateway`; offer tasks in `labelling`."""
        self._database = database
        self._store = store
        self._gateway = gateway
        self._labelling = labelling

    def select(self, round_id: str) -> SelectionResult:
        """Choose a round's images once, and open their tasks; a second run changes nothing.

        The choice is written before the tasks are opened, and never made again: a back end that is
        another program cannot be part of a transaction.

        Raises:
            EmptyPool: no unlabelled image is left, or none that can be used.
            NothingExpected: the budget is in boxes, and the model expects none.
            UnknownStrategy: a plug-in is not installed any more.
        """
        with self._database.transaction() as session:
            row = session.get_one(RoundRow, round_id)
        if row.selected is None:
            row = self._pin(row, self._choose(row, request_of(row)))
        images = [SelectedImage.model_validate(s) for s in row.selected or ()]
        boxes = self._boxes(row, [image.image_id for image in images])
        labelling_round = LabellingRound(row.id, row.project, tuple(row.classes))
        self._labelling.open_round(labelling_round, [_task(image, boxes) for image in images])
        if self._ended(row.id):
            self._labelling.close_round(row.id)
        log.info("round.selected", round_id=row.id, n_images=len(images), note=row.note)
        return SelectionResult(round_id=row.id, n_selected=len(images), note=row.note)

    def _choose(self, row: RoundRow, request: RoundPlan) -> Selection:
        skipped = frozenset(self._labelling.skipped(row.project))
        groups = self._pool(row.project, request, skipped)
        needs = needs_of(request.strategy)
        names = tuple(row.classes)
        classes = (
            read_classes(self._gateway, row.project, names, row.scored_by)
            if needs.classes
            else unknown(names)
        )
        acquisition = build(request.strategy, classes)
        if not needs.images and request.budget_unit == "images":
            return choose(request, acquisition, unread(groups))
        scored = read_shards(self._store, row.project, row.scored_by, ("train",))
        # Of the others all are labelled, but for those that were skipped.
        known = (i for i in scored if i.image_id in groups or i.image_id not in skipped)
        reading = read_pool(known, groups, acquisition, needs, seed=request.seed)
        return choose(request, acquisition, reading)

    def _pool(
        self, project: str, request: RoundPlan, skipped: Collection[str]
    ) -> Mapping[str, str | None]:
        """Return the unlabelled images, by id with their group of near-duplicates.

        Those that were skipped before are among them only if nothing else is.
        """
        images = self._gateway.iter_images(project, split=request.purpose, labelled=False)
        groups = {
            image.id: image.duplicate_group
            for image in images
            if image.split == request.purpose and not image.labelled
        }
        if not groups:
            msg = f"project {project!r} has no unlabelled image of split {request.purpose!r} left"
            raise EmptyPool(msg)
        return {i: group for i, group in groups.items() if i not in skipped} or groups

    def _boxes(self, row: RoundRow, ids: Sequence[str]) -> Mapping[str, tuple[Detection, ...]]:
        """Return what the model sees in the images; the base model knows no class of ours."""
        if row.scored_by is None:
            return {}
        return read_detections(self._store, row.project, row.scored_by, ids)

    def _ended(self, round_id: str) -> bool:
        """Tell whether the round was cancelled while its images were chosen."""
        with self._database.transaction() as session:
            return session.get_one(RoundRow, round_id).finished_at is not None

    def _pin(self, row: RoundRow, selection: Selection) -> RoundRow:
        statement = (
            update(RoundRow)
            .where(RoundRow.id == row.id, RoundRow.selected.is_(None))
            .values(
                selected=[i.model_dump(mode="json") for i in selection.images], note=selection.note
            )
        )
        with self._database.transaction() as session:
            session.execute(statement)
            return session.get_one(RoundRow, row.id, populate_existing=True)


def choose(request: RoundPlan, acquisition: Acquisition, reading: PoolReading) -> Selection:
    """Return the images for a request; the same pool and scores always give the same ones.

    Args:
        request: strategy, budget and seed.
        acquisition: the strategy of the request.
        reading: what is known of the unlabelled images.

    Raises:
        EmptyPool: none of the pool was scored so that it can be used.
        NothingExpected: the budget is in boxes, and no image has any.
    """
    pool = reading.pool
    _require_usable(request, reading)
    if isinstance(request.strategy, RandomStrategy):
        # What everything is compared with stays a uniform draw, near-duplicates too.
        pool = pool.ungrouped()
    budget = Budget(request.budget, request.budget_unit)
    order = acquisition.order(pool, budget.n_images(pool), request.seed)
    taken = take(order, pool, budget)
    # Neither an unread pool nor the base model expects anything, which is not to expect nothing.
    expects = bool(pool.expected_boxes.any())
    images = tuple(
        SelectedImage(
            image_id=pool.ids[choice.row],
            rank=rank,
            value=choice.value,
            reason=choice.reason,
            expected_boxes=int(pool.expected_boxes[choice.row]) if expects else None,
        )
        for rank, choice in enumerate(taken, start=1)
    )
    spent = sum(budget.cost(pool, choice.row) for choice in taken)
    return Selection(images, _note(budget, reading, spent))


def _require_usable(request: RoundPlan, reading: PoolReading) -> None:
    n = len(reading.pool)
    if n == 0 and reading.unusable:
        msg = f"no unlabelled image can be used: {_unusable(reading)}"
        raise EmptyPool(msg)
    if n == 0:
        msg = f"none of the {reading.n_unscored} unlabelled images was scored"
        raise EmptyPool(msg)
    if request.budget_unit == "boxes" and not reading.pool.expected_boxes.any():
        msg = f"the model expects no box in any of {n} images: give the budget in images"
        raise NothingExpected(msg)


def _note(budget: Budget, reading: PoolReading, spent: int) -> str | None:
    notes = []
    n_looked_at = len(reading.pool) + len(reading.unusable)
    n_pool = n_looked_at + reading.n_unscored + reading.n_unsampled
    if reading.n_unscored:
        notes.append(f"{reading.n_unscored} of {n_pool} images came after the scoring: left out")
    if reading.n_unsampled:
        notes.append(f"{n_looked_at} of {n_pool} images were looked at, even over what they show")
    if reading.unusable:
        notes.append(_unusable(reading))
    available = budget.available(reading.pool)
    asked = f"budget {budget.amount}, but the"
    unit = "images" if budget.unit == "images" else "boxes (at least 1 an image)"
    if spent < min(budget.amount, available):
        notes.append(f"{asked} strategy chose {spent} {unit} only")
    elif available < budget.amount:
        notes.append(f"{asked} pool has {available} {unit}: all taken")
    return "; ".join(notes) or None


def _unusable(reading: PoolReading) -> str:
    ids = reading.unusable
    named = ", ".join(ids[:N_NAMED]) + (" and more" if len(ids) > N_NAMED else "")
    images = "1 image has" if len(ids) == 1 else f"{len(ids)} images have"
    return f"{images} unusable scores (not finite): left out ({named})"


def _task(image: SelectedImage, boxes: Mapping[str, tuple[Detection, ...]]) -> NewTask:
    return NewTask(
        image_id=image.image_id,
        rank=image.rank,
        reason=image.reason,
        pre_annotations=boxes.get(image.image_id, ()),
    )
