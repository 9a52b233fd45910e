"""Drift: whether what is served still looks like what the model was measured on."""

import streamlit as st

from dashboard.data import drift_table
from dashboard.session import Desk
from shared.client import GatewayClient
from shared.errors import AppError
from shared.models.registry import DriftCreate, DriftResult


def page(desk: Desk) -> None:
    """Show the drift reports."""
    st.title("Drift")
    st.caption("Served predictions compared with the held-out images, column by column.")
    _new_report(desk)
    reports = desk.client.drift_reports(desk.name)[::-1]
    if not reports:
        st.info(
            "No report yet. Send pictures to the model (Try it, `fovea predict`), then make one.",
            icon=":material/monitoring:",
        )
        return
    report = _pick(reports)
    _summary(report)
    document = _page_of(desk.client, desk.name, report.report_id)
    st.download_button(
        "Download the report",
        document,
        f"{desk.name}-drift-{report.report_id}.html",
        "text/html",
        icon=":material/download:",
    )
    st.iframe(document.decode(), height=900, alt="The drift report")


def _pick(reports: list[DriftResult]) -> DriftResult:
    ids = [report.report_id for report in reports]
    asked = st.query_params.get("report")
    return st.selectbox(
        "Report",
        reports,
        index=ids.index(asked) if asked in ids else 0,
        format_func=lambda r: (
            f"{r.report_id} · model v{r.model_version} · {r.n_current} predictions · "
            + (f"{len(r.drifted_columns)} drifted" if r.drifted_columns else "no drift")
        ),
    )


def _summary(report: DriftResult) -> None:
    if report.drifted_columns:
        names = ", ".join(f"`{name}`" for name in report.drifted_columns)
        st.warning(f"**Drifted:** {names}", icon=":material/warning:")
    else:
        st.success("**No column drifted.**", icon=":material/check_circle:")
    st.caption(
        f"Model v{report.model_version}: {report.n_current} served predictions against "
        f"{report.n_reference} held-out images. A column drifted when its p-value is below "
        f"{report.threshold:g}."
    )
    st.dataframe(
        drift_table(report.columns, report.drifted_columns),
        hide_index=True,
        width="content",
        column_config={"p-value": st.column_config.NumberColumn(format="%.4g")},
    )


def _new_report(desk: Desk) -> None:
    with (
        st.form("new-report", border=False),
        st.container(horizontal=True, vertical_alignment="bottom"),
    ):
        batch = st.text_input(
            "Only predictions sent with this batch label", placeholder="all", width=320
        )
        clicked = st.form_submit_button("Make a new report", icon=":material/add:")
    if not clicked:
        return
    with st.status("Comparing…") as status:
        try:
            job = desk.client.drift_report(desk.name, DriftCreate(batch=batch.strip() or None))
            desk.client.wait_job(
                job.id,
                on_change=lambda j: status.update(label=j.message or "Comparing…"),
                timeout_s=600,
            )
        except (AppError, TimeoutError) as exc:
            status.update(label=f"No report: {exc}", state="error", expanded=False)
            return
        status.update(label="The report is ready", state="complete")


@st.cache_data(max_entries=8, show_spinner="Fetching the report…")
def _page_of(_client: GatewayClient, project: str, report_id: str) -> bytes:
    return _client.drift_html(project, report_id)
