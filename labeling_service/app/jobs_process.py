"""The `jobs` process: reaper and round reconciler, rung by every job's end and by a clock."""

import os
import signal
import threading

import structlog
from sqlalchemy.exc import SQLAlchemyError

from labeling_service.app.services.reconcile import Reconciler
from labeling_service.app.wiring import build
from shared.errors import AppError
from shared.jobs.bell import RECONCILE, make_celery
from shared.jobs.retire import retire_old
from shared.jobs.store import JobStore
from shared.jobs.worker import register, serve
from shared.log import configure_logging
from shared.models.batches import BATCH_KIND, KEPT
from shared.settings import Settings, load_settings

log = structlog.stdlib.get_logger()


class SafetyNet:
    """Looks every so often, from a thread of its own.

    Stale jobs are reaped, unfinished rounds swept, batches that ended long ago deleted.
    """

    def __init__(self, jobs: JobStore, reconciler: Reconciler, interval_s: float) -> None:
        """Look at `jobs` and rounds every `interval_s` seconds."""
        self._jobs = jobs
        self._reconciler = reconciler
        self._interval_s = interval_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="safety-net", daemon=True)

    def start(self) -> None:
        """Look for the first time at once."""
        self._thread.start()

    def stop(self) -> None:
        """Finish the current look and end."""
        self._stopping.set()
        self._thread.join(timeout=10)

    def look(self) -> None:
        """Look once; a back end that is down is waited for until the next time."""
        try:
            n_jobs = self._jobs.reap()
            n_rounds = self._reconciler.sweep()
            n_deleted = retire_old(self._jobs, BATCH_KIND, KEPT)
        except (AppError, SQLAlchemyError) as exc:
            log.warning("safety_net.failed", reason=f"{type(exc).__name__}: {exc}")
        else:
            log.debug(
                "safety_net.looked", n_jobs=n_jobs, n_rounds=n_rounds, n_batches_deleted=n_deleted
            )

    def _run(self) -> None:
        self.look()
        while not self._stopping.wait(self._interval_s):
            self.look()


def run(settings: Settings) -> None:
    """Be the `jobs` process until told to stop."""
    configure_logging(settings, "jobs")
    threading.excepthook = _end_process
    deps = build(settings)

    def reconcile(round_id: str) -> None:
        try:
            deps.reconciler.reconcile(round_id)
        except AppError as exc:
            log.warning("reconcile.failed", round_id=round_id, reason=f"{exc.name}: {exc}")

    net = SafetyNet(deps.jobs, deps.reconciler, settings.reconcile_interval_s)
    app = make_celery(settings)
    register(app, RECONCILE, reconcile)
    net.start()
    serve(app, "jobs", settings)
    net.stop()
    deps.close()


def _end_process(crash: threading.ExceptHookArgs) -> None:
    """End the process when a thread dies: without its clock it would look alive and do nothing."""
    log.error("thread.died", thread=str(crash.thread), exc_info=crash.exc_value)
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    """Be the `jobs` process."""
    run(load_settings())


if __name__ == "__main__":
    main()
