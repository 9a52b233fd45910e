"""Drift reports: make one, list them, read one."""

from fastapi import APIRouter, Response
from fastapi.responses import HTMLResponse

from monitoring.evidently_service.app.api.dependencies import DepsDep, ProjectDep
from monitoring.evidently_service.app.models.schemas import StoredReport
from shared.jobs.store import JobSubmit
from shared.models.jobs import JobView
from shared.models.registry import DriftCreate, DriftResult

router = APIRouter(prefix="/v1/projects/{project}/drift-reports", tags=["drift"])

# The page is one file with its scripts inside. It may draw, and nothing else: it loads nothing,
# sends nothing, and its sandbox is an origin of its own, from which our API is out of reach.
PAGE_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
        "img-src data: blob:; font-src data:; base-uri 'none'; form-action 'none'; "
        "sandbox allow-scripts allow-downloads"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


@router.post("", status_code=202)
def create_drift_report(request: DriftCreate, project: ProjectDep, deps: DepsDep) -> JobView:
    """Compare served predictions with the held-out images; the job's result is a DriftResult."""
    with deps.database.transaction() as session:
        return deps.jobs.submit(session, JobSubmit("evidently.report", project, request))


@router.get("")
def list_drift_reports(project: ProjectDep, deps: DepsDep) -> list[DriftResult]:
    """Return the finished reports, the oldest first."""
    return deps.reports.list(project)


@router.get("/{report_id}/html", response_class=HTMLResponse)
def get_drift_report_page(report_id: str, project: ProjectDep, deps: DepsDep) -> Response:
    """Return a report as a page that needs nothing from elsewhere."""
    return HTMLResponse(deps.reports.html(project, report_id), headers=PAGE_HEADERS)


@router.get("/{report_id}/json", response_model=StoredReport)
def get_drift_report_data(report_id: str, project: ProjectDep, deps: DepsDep) -> Response:
    """Return a report as data."""
    return Response(deps.reports.json(project, report_id), media_type="application/json")
