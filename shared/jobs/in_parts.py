"""A long job done in parts, by whichever workers of its queue are free.

A part is claimed, retried and resumed alone. The job itself works on parts too, so that one worker
is enough, and ends when the last part has.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from shared.errors import AppError, BackendUnavailable
from shared.jobs.parts import (
    Part,
    Tally,
    insert_parts,
    part_results,
    tally_parts,
    waiting_part,
)
from shared.jobs.worker import JobCancelled, JobContext, JobLost, TaskFunction

LOOK_EVERY_S = 0.5


class PartFailed(AppError):
    """A part of the job failed for good, or was cancelled."""

    status = 500


@dataclass(frozen=True)
class Parts:
    """How a job is cut.

    Attributes:
        kind: task of one part, `inference.score_part`.
        unit: what the sizes count, `images`.
        plan: returns the parts; what it returned once holds, however often the job is resumed.
        work: does one part.
    """

    kind: str
    unit: str
    plan: Callable[[], Sequence[Part]]
    work: TaskFunction


def run_in_parts(context: JobContext, parts: Parts) -> list[dict[str, Any]]:
    """Do a job in parts and return their results, in the order of the plan.

    Raises:
        PartFailed: a part failed for good, or was cancelled; with the job the others are too.
        BackendUnavailable: a part waits for a back end, and so the job does.
        JobCancelled, JobLost, JobReleased: as `JobContext.progress`.
    """
    store, job = context.store, context.job
    tally = tally_parts(store, job.id)
    if not tally.n_parts and not insert_parts(store, context.claim, parts.kind, parts.plan()):
        raise JobLost
    started, done_before = time.monotonic(), tally.done

    def look() -> Tally:
        now = tally_parts(store, job.id)
        rate = (now.done - done_before) / max(time.monotonic() - started, 1e-9)
        context.progress(now.done / max(now.total, 1), _message(now, rate, parts.unit))
        return now

    while (tally := look()).n_open and tally.failed is None:
        if part := waiting_part(store, job.id):
            state = context.runner.run(part, parts.work, look)
            if state == "waiting":
                raise BackendUnavailable(store.get(part).message)
        else:
            time.sleep(LOOK_EVERY_S)
    if tally.failed:
        # Its parts hear of it first.
        if store.cancel_requested(job.id):
            raise JobCancelled
        raise PartFailed(tally.failed)
    return part_results(store, job.id)


def duration(seconds: float) -> str:
    """Return a time in words: `45 s`, `12 min`, `3 h 5 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def _message(tally: Tally, rate: float, unit: str) -> str:
    message = f"{tally.done:,.0f} of {tally.total:,} {unit}"
    if rate <= 0 or not tally.n_open:
        return message
    left = duration((tally.total - tally.done) / rate)
    return f"{message}, {rate:,.1f} {unit}/s, {left} left"
