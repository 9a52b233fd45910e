"""A worker process: takes job ids from its queue, claims the rows, runs the tasks."""

import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import structlog
from celery import Celery
from celery.signals import setup_logging, worker_shutting_down
from prometheus_client import Counter, Gauge, Histogram, start_http_server
from pydantic import BaseModel

from shared.database import Database, utcnow
from shared.errors import AppError, BackendUnavailable, ComesLater, JobInterrupted
from shared.jobs.bell import Bell, make_celery
from shared.jobs.parts import parent_of, ring_next
from shared.jobs.store import Claim, JobStore
from shared.log import configure_logging
from shared.models.jobs import JobView
from shared.settings import Settings

log = structlog.stdlib.get_logger()

PROGRESS_EVERY_S = 0.5

JOBS = Counter("fovea_jobs_total", "Jobs ended", ["queue", "kind", "state"])
JOB_SECONDS = Histogram(
    "fovea_job_seconds", "Duration of a job", ["kind"], buckets=(0.1, 1, 5, 15, 60, 300, 1800, 7200)
)
JOB_RUNNING = Gauge("fovea_job_running", "Jobs that run, with their part", ["queue"])


class JobCancelled(Exception):
    """The job was asked to stop."""


class JobLost(Exception):
    """The job was given to another worker; this one must leave it alone."""


class JobReleased(Exception):
    """This worker is shutting down; the job goes back to the queue."""


@dataclass
class JobContext:
    """What a task sees of its job."""

    claim: Claim
    runner: "JobRunner"
    on_progress: Callable[[], object] | None = None
    _lost: threading.Event = field(default_factory=threading.Event)
    _last: float = 0.0

    @property
    def job(self) -> JobView:
        """Return the job as it was when it was claimed."""
        return self.claim.job

    @property
    def settings(self) -> Settings:
        """Return the worker's settings."""
        return self.runner.settings

    @property
    def store(self) -> JobStore:
        """Return the rows of all jobs."""
        return self.runner.store

    @property
    def seconds(self) -> float:
        """Return the time since the job was first claimed, by whichever worker."""
        return (utcnow() - (self.job.started_at or utcnow())).total_seconds()

    def progress(self, fraction: float, message: str = "") -> None:
        """Write progress in [0, 1] (throttled), and see whether to go on.

        Raises:
            JobCancelled: somebody asked for the job to stop.
            JobLost: it was given to another worker.
            JobReleased: this worker is shutting down.
        """
        if self.runner.stopping.is_set():
            raise JobReleased
        if self._lost.is_set():
            raise JobLost
        now = time.monotonic()
        if now - self._last < PROGRESS_EVERY_S and fraction < 1:
            return
        self._last = now
        if not self.store.beat(self.claim, fraction, message):
            self._lost.set()
            raise JobLost
        if self.store.cancel_requested(self.job.id):
            raise JobCancelled
        if self.on_progress is not None:
            self.on_progress()

    def heartbeat_until(self, done: threading.Event) -> None:
        """Give signs of life until `done`; a back end that is down for a moment is waited for."""
        while not done.wait(self.settings.job_heartbeat_s):
            try:
                alive = self.store.beat(self.claim)
            except BackendUnavailable as exc:
                log.warning("job.heartbeat_failed", reason=str(exc))
                continue
            if not alive:
                self._lost.set()
                return


RunState = Literal[
    "not claimed", "succeeded", "failed", "cancelled", "released", "waiting", "behind", "lost"
]
TaskFunction = Callable[[JobContext], BaseModel]
Build = Callable[[Settings], Mapping[str, TaskFunction]]


def run_worker(queue: str, settings: Settings, build: Build) -> None:
    """Be the worker of `queue` until told to stop: the whole `main` of a worker process."""
    configure_logging(settings, f"{queue}_worker")
    app = make_celery(settings)
    database = Database(settings.database_url)
    runner = JobRunner(queue, JobStore(database, Bell(app), settings), settings)
    for kind, function in build(settings).items():
        register(app, kind, _shell(runner, function))
    worker_shutting_down.connect(runner.stop, weak=False)
    serve(app, queue, settings)
    database.close()


def _shell(runner: "JobRunner", function: TaskFunction) -> Callable[[str], None]:
    def shell(job_id: str) -> None:
        runner.answer(job_id, function)

    return shell


def register(app: Celery, name: str, function: Callable[[str], None]) -> None:
    """Make `function` the task `name`, which takes one id."""
    app.task(name=name)(function)


def _keep_logging(**_signal: object) -> None:
    """Be connected: Celery then leaves logging as it is configured."""


def serve(app: Celery, queue: str, settings: Settings) -> None:
    """Serve `/metrics` and consume the queue, one message at a time, until told to stop."""
    setup_logging.connect(_keep_logging)
    start_http_server(settings.metrics_port, addr=settings.host)
    app.worker_main(
        [
            "--quiet",
            "worker",
            "--pool=solo",
            f"--queues={queue}",
            f"--hostname={queue}-{os.getpid()}@{socket.gethostname()}",
            "--without-gossip",
            "--without-mingle",
            "--without-heartbeat",
        ]
    )


class JobRunner:
    """Claims jobs and runs them, one at a time."""

    def __init__(self, queue: str, store: JobStore, settings: Settings) -> None:
        """Work for `queue` on the rows of `store`."""
        self.queue = queue
        self.store = store
        self.settings = settings
        self.worker = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self.stopping = threading.Event()

    def stop(self, **_signal: object) -> None:
        """Let go of the current job at its next progress call."""
        self.stopping.set()

    def answer(self, job_id: str, function: TaskFunction) -> None:
        """Do what the bell rang for; after a part, ring for the next one that waits.

        Other jobs of the queue come in between. A part whose job waits itself is left to that job,
        which shows how far its parts are.
        """
        parent_id = parent_of(self.store, job_id)
        if parent_id and self.store.get(parent_id).state == "queued":
            return
        state = self.run(job_id, function)
        if parent_id and state in ("not claimed", "succeeded") and not self.stopping.is_set():
            ring_next(self.store, parent_id)

    def run(
        self,
        job_id: str,
        function: TaskFunction,
        on_progress: Callable[[], object] | None = None,
    ) -> RunState:
        """Run one job to its end, if it is there to be claimed, and return how it ended.

        Args:
            job_id: of the job.
            function: does it.
            on_progress: called whenever progress is written; what it raises ends the work.
        """
        claim = self.store.claim(job_id, self.worker)
        if claim is None:
            log.info("job.not_claimed", job_id=job_id)
            return "not claimed"
        job = claim.job
        context = JobContext(claim, self, on_progress)
        with structlog.contextvars.bound_contextvars(job_id=job.id, project=job.project):
            log.info("job.started", kind=job.kind, attempt=job.attempts)
            done = threading.Event()
            heart = threading.Thread(target=context.heartbeat_until, args=(done,), daemon=True)
            heart.start()
            JOB_RUNNING.labels(self.queue).inc()
            started = time.monotonic()
            try:
                state = self._run_claimed(context, function)
            finally:
                done.set()
                heart.join()
                JOB_RUNNING.labels(self.queue).dec()
            seconds = time.monotonic() - started
            JOBS.labels(self.queue, job.kind, state).inc()
            JOB_SECONDS.labels(job.kind).observe(seconds)
            log.info("job.ended", kind=job.kind, state=state, seconds=round(seconds, 3))
            return state

    def _run_claimed(self, context: JobContext, function: TaskFunction) -> RunState:
        claim = context.claim
        try:
            result = function(context)
        except JobCancelled:
            self.store.finish(claim, "cancelled")
            return "cancelled"
        except JobReleased:
            self.store.release(claim, "released by a stopping worker", attempt_counts=False)
            return "released"
        except JobLost:
            # Its own, or that of the job it is a part of; then it goes back.
            self.store.release(claim, "released by a lost job", attempt_counts=False)
            return "lost"
        except (BackendUnavailable, JobInterrupted) as exc:
            return self._try_again(claim, exc)
        except Exception as exc:  # the one outer shell: log it, fail the job
            known = isinstance(exc, AppError)
            log.error("job.failed", error=str(exc), exc_info=None if known else exc)
            self.store.finish(claim, "failed", error=f"{type(exc).__name__}: {exc}")
            return "failed"
        self.store.finish(claim, "succeeded", result=result.model_dump(mode="json"))
        return "succeeded"

    def _try_again(self, claim: Claim, exc: BackendUnavailable | JobInterrupted) -> RunState:
        """Put the job back; waiting for a back end is no attempt, but has its own limit."""
        log.warning("job.put_back", reason=str(exc), attempt=claim.job.attempts)
        waits = isinstance(exc, BackendUnavailable)
        # Its age is none of a back end's: it may have queued or worked for days.
        waited_s = claim.n_waits * self.settings.reconcile_interval_s
        may_wait = waits and waited_s < self.settings.job_wait_s
        may_retry = not waits and claim.job.attempts < claim.job.max_attempts
        if may_wait or may_retry:
            message = f"{'waiting' if waits else 'interrupted'}: {exc}"
            self.store.release(claim, message, attempt_counts=not waits, ring=not waits)
            if isinstance(exc, ComesLater):
                return "behind"
            return "waiting" if waits else "released"
        self.store.finish(claim, "failed", error=f"{exc.name}: {exc}")
        return "failed"
