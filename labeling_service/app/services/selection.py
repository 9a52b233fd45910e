"""The job `labeling.select`: choose the images of a round and offer them to annotators."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import structlog
from sqlalchemy import update

from labeling_service.app.core.gateway import Gateway
from labeling_service.app.core.labelling.port import Labelling, LabellingRound, NewTask
from labeling_service.app.core.strategies.candidates import Choice
from labeling_service.app.core.strategies.coreset import choose_coreset
from labeling_service.app.core.strategies.kmeans import choose_kmeans
from labeling_service.app.core.strategies.uncertainty import choose_uncertain
from labeling_service.app.core.strategies.uniform import choose_randomly
from labeling_service.app.models.errors import EmptyPool
from labeling_service.app.models.schemas import SelectionResult
from labeling_service.app.models.tables import RoundRow
from labeling_service.app.services.scored_pool import ScoredCandidate, read_scored
from labeling_service.app.services.steps import request_of
from shared.database import Database
from shared.models.rounds import (
    CoreSetStrategy,
    KMeansStrategy,
    RandomStrategy,
    RoundCreate,
    SelectedImage,
)
from shared.objects.port import ObjectStore

log = structlog.stdlib.get_logger()

Scored = Mapping[str, ScoredCandidate]


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
            EmptyPool: no unlabelled image is left.
        """
        with self._database.transaction() as session:
            row = session.get_one(RoundRow, round_id)
        request = request_of(row)
        scored: Scored = {}
        if request.purpose == "train":
            scored = read_scored(self._store, row.project, row.scored_by, "train")
        if row.selected is None:
            selection = choose(request, self._pool(row.project, request), scored)
            row = self._pin(row, selection)
        images = [SelectedImage.model_validate(s) for s in row.selected or ()]
        known = scored if row.scored_by is not None else {}
        labelling_round = LabellingRound(row.id, row.project, tuple(row.classes))
        self._labelling.open_round(labelling_round, [_task(image, known) for image in images])
        if self._ended(row.id):
            self._labelling.close_round(row.id)
        log.info("round.selected", round_id=row.id, n_images=len(images), note=row.note)
        return SelectionResult(round_id=row.id, n_selected=len(images), note=row.note)

    def _pool(self, project: str, request: RoundCreate) -> list[str]:
        """Return the unlabelled images; those that were skipped before only if nothing else is."""
        images = self._gateway.iter_images(project, split=request.purpose, labelled=False)
        ids = sorted({i.id for i in images if i.split == request.purpose and not i.labelled})
        if not ids:
            msg = f"project {project!r} has no unlabelled image of split {request.purpose!r} left"
            raise EmptyPool(msg)
        skipped = self._labelling.skipped(project)
        return [image_id for image_id in ids if image_id not in skipped] or ids

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


def choose(request: RoundCreate, pool: Sequence[str], scored: Scored) -> Selection:
    """Return the images for a request; the same pool and shards always give the same ones.

    Args:
        request: strategy, budget and seed.
        pool: ids of the unlabelled images.
        scored: the scored images of the split, labelled ones too; unused by the random strategy.

    Raises:
        EmptyPool: none of the pool was scored, and the strategy looks at the scores.
    """
    usable = list(pool)
    if not isinstance(request.strategy, RandomStrategy):
        usable = [image_id for image_id in pool if image_id in scored]
        if not usable:
            msg = f"none of the {len(pool)} unlabelled images was scored"
            raise EmptyPool(msg)
    choices = _choices(request, usable, scored)
    images = tuple(
        SelectedImage(image_id=c.image_id, rank=rank, value=c.value, reason=c.reason)
        for rank, c in enumerate(choices, start=1)
    )
    return Selection(images, _note(request, n_pool=len(pool), n_usable=len(usable)))


def _choices(request: RoundCreate, usable: Sequence[str], scored: Scored) -> list[Choice]:
    strategy, budget, seed = request.strategy, request.budget, request.seed
    if isinstance(strategy, RandomStrategy):
        return choose_randomly(usable, budget, seed)
    candidates = [scored[image_id].candidate for image_id in sorted(usable)]
    if isinstance(strategy, KMeansStrategy):
        return choose_kmeans(candidates, budget, seed)
    if isinstance(strategy, CoreSetStrategy):
        pool = set(usable)
        labelled = [scored[i].candidate for i in sorted(scored) if i not in pool]
        return choose_coreset(candidates, labelled, budget)
    return choose_uncertain(candidates, budget, strategy.strategy, strategy.aggregation)


def _note(request: RoundCreate, *, n_pool: int, n_usable: int) -> str | None:
    notes = []
    if n_usable < n_pool:
        notes.append(f"{n_pool - n_usable} of {n_pool} images came after the scoring: left out")
    if n_usable < request.budget:
        notes.append(f"budget {request.budget}, but the pool has {n_usable} images: all taken")
    return "; ".join(notes) or None


def _task(image: SelectedImage, scored: Scored) -> NewTask:
    seen = scored.get(image.image_id)
    return NewTask(
        image_id=image.image_id,
        rank=image.rank,
        reason=image.reason,
        pre_annotations=seen.detections() if seen else (),
    )
