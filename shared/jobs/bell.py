"""The doorbell: a Celery message that tells a worker to look at a job row.

A message that is delivered twice is harmless, because the row is claimed by compare-and-set; a lost
one is found again by the reaper.
"""

import structlog
from celery import Celery
from kombu.exceptions import OperationalError

from shared.errors import BackendUnavailable
from shared.settings import Settings

log = structlog.stdlib.get_logger()

RECONCILE = "jobs.reconcile"


def queue_of(kind: str) -> str:
    """Return the queue of a kind of job: `training` of `training.train`."""
    return kind.split(".", maxsplit=1)[0]


def make_celery(settings: Settings) -> Celery:
    """Return the Celery application: early acknowledgement, prefetch 1, no result back end."""
    app = Celery("fovea", broker=settings.broker_url, set_as_current=False)
    app.conf.update(
        task_acks_late=False,
        task_ignore_result=True,
        worker_prefetch_multiplier=1,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options={
            "socket_connect_timeout": 2,
            "socket_keepalive": True,
            "health_check_interval": 5,
            # Without these a bell on a dead broker blocks the request for 6 s.
            "max_retries": 1,
            "interval_start": 0,
            "interval_step": 0.1,
        },
        task_publish_retry=False,
    )
    return app


class Bell:
    """Rings workers; a bell that does not ring is logged, since the reaper rings again."""

    def __init__(self, app: Celery) -> None:
        """Ring through the broker of `app`."""
        self._app = app

    def ring(self, kind: str, job_id: str) -> None:
        """Tell the workers of this kind that a job waits."""
        self._send(kind, job_id, queue_of(kind))

    def ring_reconciler(self, round_id: str) -> None:
        """Tell the jobs process that a step of this round ended."""
        self._send(RECONCILE, round_id, "jobs")

    def check(self) -> None:
        """Ask the broker for an answer.

        Raises:
            BackendUnavailable: it gives none.
        """
        try:
            with self._app.connection_for_write(connect_timeout=2) as connection:
                connection.ensure_connection(max_retries=1, timeout=3)
        except (OperationalError, OSError) as exc:
            msg = f"broker ({self._app.conf.broker_url.split('@')[-1]}): {exc}"
            raise BackendUnavailable(msg) from exc

    def close(self) -> None:
        """Close the connections to the broker."""
        self._app.close()

    def _send(self, name: str, argument: str, queue: str) -> None:
        try:
            self._app.send_task(name, args=[argument], queue=queue, retry=False)
        except (OperationalError, OSError) as exc:
            log.warning("bell.silent", task=name, argument=argument, reason=str(exc))
