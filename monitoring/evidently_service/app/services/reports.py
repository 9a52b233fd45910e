"""Drift reports as they lie in the object store."""

from monitoring.evidently_service.app.models.schemas import StoredReport
from shared.errors import NotFound
from shared.models.registry import DriftResult
from shared.objects.port import ObjectNotFound, ObjectStore


class UnknownDriftReport(NotFound):
    """The project has no such report."""


def html_key(project: str, report_id: str) -> str:
    """Return where a report's page lies."""
    return f"projects/{project}/drift/{report_id}.html"


def json_key(project: str, report_id: str) -> str:
    """Return where a report's data lies."""
    return f"projects/{project}/drift/{report_id}.json"


class DriftReports:
    """Reads finished reports."""

    def __init__(self, store: ObjectStore) -> None:
        """Read from `store`."""
        self._store = store

    def list(self, project: str) -> list[DriftResult]:
        """Return every report of the project, the oldest first."""
        keys = self._store.list(f"projects/{project}/drift/")
        found = [self._read(key) for key in keys if key.endswith(".json")]
        found.sort(key=lambda stored: stored.created_at)
        return [stored.result for stored in found]

    def html(self, project: str, report_id: str) -> bytes:
        """Return a report's page.

        Raises:
            UnknownDriftReport: the project has no such report.
        """
        return self._get(html_key(project, report_id), report_id)

    def json(self, project: str, report_id: str) -> bytes:
        """Return a report's data, a `StoredReport`.

        Raises:
            UnknownDriftReport: the project has no such report.
        """
        return self._get(json_key(project, report_id), report_id)

    def _read(self, key: str) -> StoredReport:
        return StoredReport.model_validate_json(self._store.get(key))

    def _get(self, key: str, report_id: str) -> bytes:
        try:
            return self._store.get(key)
        except ObjectNotFound as exc:
            msg = f"unknown drift report: {report_id!r}"
            raise UnknownDriftReport(msg) from exc
