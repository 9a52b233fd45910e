"""Rounds as callers see them: create, read, cancel."""

import uuid
from collections.abc import Sequence
from typing import Any, cast

from sqlalchemy import CursorResult, func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from labeling_service.app.core.gateway import Gateway
from labeling_service.app.core.labelling.port import Labelling
from labeling_service.app.core.strategies.needs import needs_of
from labeling_service.app.models.errors import (
    EmptyPool,
    HeldOutNotLabelled,
    NoClasses,
    NoModelYet,
    NotSelectable,
    RoundFinished,
    RoundInProgress,
    UnknownRound,
)
from labeling_service.app.models.tables import RoundRow
from labeling_service.app.services.steps import STATES, first_step, job_key, step_of, submit_step
from shared.bases import check_base
from shared.database import Database, utcnow
from shared.jobs.store import JobAlreadyFinished, JobStore
from shared.models.data import SPLITS, ProjectView
from shared.models.jobs import JobView
from shared.models.rounds import (
    RoundCreate,
    RoundPlan,
    RoundState,
    RoundView,
    SelectedImage,
    StepView,
)
from shared.models.strategies import (
    FIRST_STRATEGY,
    USUAL_STRATEGY,
    RandomStrategy,
    describe,
    parse_strategy,
)

# Each try loses only to a round that another request has just created.
CREATE_TRIES = 5


class Rounds:
    """The rounds of all projects."""

    def __init__(
        self, database: Database, jobs: JobStore, gateway: Gateway, labelling: Labelling
    ) -> None:
        """Keep rounds in `database`, and ask the other services through `gateway`."""
        self._database = database
        self._jobs = jobs
        self._gateway = gateway
        self._labelling = labelling

    def create(self, project: str, request: RoundCreate) -> RoundView:
        """Start a round: check that it can be done, insert it and its first job.

        Raises:
            NotFound: the project does not exist.
            UnknownBaseModel: the training is to start from a model that does not exist.
            NoClasses: its class map is not pinned yet.
            NotSelectable: a held-out round asks for anything but a random choice.
            NotFound: the model version that is to score the pool does not exist.
            NoModelYet: a strategy that looks at boxes, or a budget in boxes, without a production
                model.
            UnknownStrategy: a plug-in that is not installed, or does not take these parameters.
            HeldOutNotLabelled: the model could not be measured: val, gate or test has no labels.
            EmptyPool: no unlabelled image of this split is left.
            RoundInProgress: another round of this purpose is not finished; it is named.
        """
        check_base(request.training.base)
        view = self._gateway.project(project)
        if not view.classes:
            msg = f"project {project!r} has no classes yet: name them, or ingest labelled images"
            raise NoClasses(msg)
        with self._database.transaction() as session:
            _refuse_second(session, project, request)
        model = request.scored_by
        if request.purpose == "train" and model is None:
            model = self._gateway.aliases(project).production
        plan = _plan(request, model)
        scored_by = self._scored_by(project, plan, model)
        if request.purpose == "train":
            self._require_held_out(view)
        self._require_pool(project, request)
        return self._view(self._insert(view, plan, scored_by))

    def get(self, project: str, round_id: str) -> RoundView:
        """Return one round.

        Raises:
            NotFound: the project, or the round in it, does not exist.
        """
        return self._view(self._require(project, round_id))

    def list(self, project: str) -> Sequence[RoundView]:
        """Return the project's rounds, the oldest first.

        Raises:
            NotFound: the project does not exist.
        """
        query = select(RoundRow).where(RoundRow.project == project).order_by(RoundRow.index)
        with self._database.transaction() as session:
            rows = session.scalars(query).all()
        if not rows:
            self._gateway.project(project)
        return [self._view(row) for row in rows]

    def cancel(self, project: str, round_id: str) -> RoundView:
        """Ask the current job to stop, end the round and close its open tasks.

        Raises:
            NotFound: the project, or the round in it, does not exist.
            RoundFinished: it is done or has failed.
        """
        while True:
            row = self._require(project, round_id)
            if row.state == "cancelled":
                return self._view(row)
            if row.finished_at is not None:
                msg = f"round {round_id!r} is already {row.state}"
                raise RoundFinished(msg)
            # The job first: killed in between, its end still cancels the round.
            self._cancel_job(row)
            if self._mark_cancelled(row):
                self._labelling.close_round(round_id)

    def _cancel_job(self, row: RoundRow) -> None:
        job = self._jobs.find(job_key(row.id, step_of(row)))
        if job is None or job.finished_at is not None:
            return
        try:
            self._jobs.cancel(job.id)
        except JobAlreadyFinished:
            return  # it ended in this moment; what it did is kept

    def _mark_cancelled(self, row: RoundRow) -> bool:
        statement = (
            update(RoundRow)
            .where(
                RoundRow.id == row.id, RoundRow.state == row.state, RoundRow.version == row.version
            )
            .values(state="cancelled", version=row.version + 1, finished_at=utcnow())
        )
        with self._database.transaction() as session:
            return bool(cast("CursorResult[Any]", session.execute(statement)).rowcount)

    def _scored_by(self, project: str, request: RoundPlan, model: int | None) -> int | None:
        needs = needs_of(request.strategy)
        if request.purpose != "train":
            if not isinstance(request.strategy, RandomStrategy):
                msg = (
                    f"a {request.purpose} round chooses at random, not by "
                    f"{describe(request.strategy)!r}: held-out images must not be chosen by the "
                    "model they measure"
                )
                raise NotSelectable(msg)
            if request.budget_unit == "boxes":
                msg = f"a {request.purpose} round expects no boxes: its budget is in images"
                raise NotSelectable(msg)
            if request.scored_by is not None:
                msg = f"a {request.purpose} round scores nothing: scored_by {request.scored_by}"
                raise NotSelectable(msg)
            return None
        if request.scored_by is not None:
            return self._gateway.model(project, request.scored_by).version
        if model is None and (needs.model or request.budget_unit == "boxes"):
            asks, instead = "a budget in boxes", "give one in images"
            if needs.model:
                asks = f"strategy {describe(request.strategy)!r}"
                instead = "use 'random' or 'kmeans'"
            msg = (
                f"{asks} needs a production model, and project {project!r} has none yet: {instead} "
                "for the first round"
            )
            raise NoModelYet(msg)
        return model

    def _require_held_out(self, project: ProjectView) -> None:
        held_out = [split for split in SPLITS if split != "train"]
        if project.latest_version is not None:
            newest = self._gateway.dataset_version(project.name, project.latest_version)
            held_out = [split for split in held_out if not newest.n_images.get(split)]
        if held_out:
            msg = (
                f"project {project.name!r} has no labelled image of {', '.join(held_out)}, and a "
                "trained model is measured on them: label some by rounds with that purpose first"
            )
            raise HeldOutNotLabelled(msg)

    def _require_pool(self, project: str, request: RoundCreate) -> None:
        images = self._gateway.iter_images(project, split=request.purpose, labelled=False)
        if next(images, None) is None:
            msg = f"project {project!r} has no unlabelled image of split {request.purpose!r} left"
            raise EmptyPool(msg)

    def _insert(self, project: ProjectView, request: RoundPlan, scored_by: int | None) -> RoundRow:
        for _ in range(CREATE_TRIES):
            try:
                with self._database.transaction() as session:
                    _refuse_second(session, project.name, request)
                    row = _new_row(session, project, request, scored_by)
                    session.add(row)
                    session.flush()
                    submit_step(session, self._jobs, row)
                    return row
            except IntegrityError:
                continue
        msg = f"{CREATE_TRIES} other rounds of project {project.name!r} were created meanwhile"
        raise RoundInProgress(msg)

    def _require(self, project: str, round_id: str) -> RoundRow:
        with self._database.transaction() as session:
            row = session.get(RoundRow, round_id)
        if row is None or row.project != project:
            self._gateway.project(project)
            msg = f"unknown round: {round_id!r} of project {project!r}"
            raise UnknownRound(msg)
        return row

    def _view(self, row: RoundRow) -> RoundView:
        progress = self._labelling.progress(row.id)
        jobs = self._jobs.list(round_id=row.id)
        return RoundView(
            id=row.id,
            project=row.project,
            index=row.index,
            state=cast(RoundState, row.state),
            request=RoundPlan.model_validate(row.request),
            selected=tuple(SelectedImage.model_validate(s) for s in row.selected or ()),
            n_tasks=progress.n_tasks,
            n_done=progress.n_done,
            dataset_version=row.dataset_version,
            model_version=row.model_version,
            promoted=row.promoted,
            metrics=row.metrics,
            steps=tuple(_step_view(job) for job in reversed(jobs)),
            note=row.note,
            error=row.error,
            created_at=row.created_at,
            finished_at=row.finished_at,
        )


def _plan(request: RoundCreate, model: int | None) -> RoundPlan:
    """Return what was asked for, with the usual strategy where none was; `model` may score."""
    strategy = request.strategy
    if strategy is None and request.purpose != "train":
        strategy = RandomStrategy()
    elif strategy is None:
        strategy = parse_strategy(FIRST_STRATEGY if model is None else USUAL_STRATEGY)
    return RoundPlan.model_validate({**dict(request), "strategy": strategy})


def _refuse_second(session: Session, project: str, request: RoundCreate) -> None:
    query = select(RoundRow).where(
        RoundRow.project == project,
        RoundRow.purpose == request.purpose,
        RoundRow.finished_at.is_(None),
    )
    other = session.scalars(query).one_or_none()
    if other is not None:
        msg = (
            f"round {other.id!r} (number {other.index}, {request.purpose}) of project {project!r} "
            f"is still {other.state}: wait for it or cancel it"
        )
        raise RoundInProgress(msg)


def _new_row(
    session: Session, project: ProjectView, request: RoundPlan, scored_by: int | None
) -> RoundRow:
    newest = session.scalar(
        select(func.max(RoundRow.index)).where(RoundRow.project == project.name)
    )
    step = first_step(request)
    return RoundRow(
        id=uuid.uuid4().hex,
        project=project.name,
        index=(newest or 0) + 1,
        purpose=request.purpose,
        state=STATES[step],
        step=step,
        version=0,
        request=request.model_dump(mode="json"),
        classes=list(project.classes),
        scored_by=scored_by,
        metrics={},
        created_at=utcnow(),
    )


def _step_view(job: JobView) -> StepView:
    return StepView(step=job.step or "", job_id=job.id, state=job.state, seconds=job.seconds)
