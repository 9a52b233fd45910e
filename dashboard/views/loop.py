"""Loop: where the round stands, what runs, what serves, and the buttons that move it."""

import html
from urllib.parse import quote

import streamlit as st

from dashboard.data import (
    ENDED,
    Stage,
    active_jobs,
    current_round,
    duration,
    split_table,
    stages,
    strategy_name,
)
from dashboard.session import Desk, attempt, plain_words
from dashboard.views.round_form import round_form
from shared.models.registry import AliasView
from shared.models.rounds import RoundView

REFRESH_S = 2.0
COLOURS = {
    "done": ("#E3F1EA", "#00684A", "#7CC4A8"),
    "now": ("#0072B2", "#FFFFFF", "#0072B2"),
    "later": ("#F4F6F8", "#7B8794", "#DDE3E9"),
    "failed": ("#FBE6DA", "#A33F00", "#D55E00"),
}
SIGNS = {"done": "✓", "now": "●", "later": "", "failed": "✕"}


def page(desk: Desk) -> None:
    """Show the loop."""
    st.title("Loop")
    rounds = desk.client.rounds(desk.name)
    now = current_round(rounds)
    _live(desk, (now.id, now.state) if now else None)
    st.divider()
    left, right = st.columns([3, 2], gap="large")
    with left:
        st.subheader("Start a round")
        if now and now.state not in ENDED:
            st.caption(f"Round {now.index} is running; the next can start when it has ended.")
            _cancel(desk, now)
        else:
            round_form(desk, cold=desk.client.aliases(desk.name).production is None)
    with right:
        st.subheader("Serving")
        _rollback(desk, desk.client.aliases(desk.name))


def _live(desk: Desk, seen: tuple[str, str] | None) -> None:
    """Show what changes by itself; start the page anew when the round moves on."""

    @st.fragment(run_every=REFRESH_S)
    def refresh() -> None:
        with plain_words("live"):
            rounds = desk.client.rounds(desk.name)
            now = current_round(rounds)
            if (now and (now.id, now.state)) != seen:
                st.rerun(scope="app")
            project = desk.client.project(desk.name)
            aliases = desk.client.aliases(desk.name)
            figures = st.columns(4)
            figures[0].metric("Images", f"{project.n_images:,}", border=True)
            figures[1].metric("Labelled for training", f"{project.n_labelled:,}", border=True)
            figures[2].metric("In production", _version(aliases.production), border=True)
            figures[3].metric("Previous", _version(aliases.previous), border=True)
            if now is None:
                _no_rounds(project.n_images)
            else:
                _round(desk, now)
            left, right = st.columns([3, 2], gap="large")
            with left:
                _jobs(desk)
            with right:
                st.subheader("Images")
                version = project.latest_version
                newest = desk.client.dataset_version(desk.name, version) if version else None
                st.dataframe(split_table(project, newest), hide_index=True)

    refresh()


def _round(desk: Desk, view: RoundView) -> None:
    request = view.request
    st.subheader(f"Round {view.index}")
    purpose = "" if request.purpose == "train" else f" · labels for {request.purpose}"
    st.caption(
        f"{strategy_name(request.strategy)} · budget {request.budget} {request.budget_unit} · "
        f"{request.training.epochs} epochs{purpose} · begun {view.created_at:%d %b %Y %H:%M} UTC"
    )
    st.html(step_bar(stages(view)))
    if view.note:
        st.info(view.note, icon=":material/info:")
    if view.state == "failed":
        st.error(f"This round failed: {view.error or 'no reason given'}", icon=":material/error:")
    if view.state == "cancelled":
        st.warning("This round was cancelled.", icon=":material/cancel:")
    if view.state == "labelling" and view.n_tasks:
        st.progress(view.n_done / view.n_tasks, f"{view.n_done} of {view.n_tasks} images labelled")
    if view.state == "done" and "map50" in view.metrics:
        verdict = {True: "promoted", False: "not promoted", None: "not judged"}[view.promoted]
        st.success(
            f"Model v{view.model_version}: test mAP50 {view.metrics['map50']:.3f}, {verdict}.",
            icon=":material/check_circle:",
        )
    # MLflow may be down while everything else runs.
    with plain_words("links"):
        _links(desk, view)


def _links(desk: Desk, view: RoundView) -> None:
    with st.container(horizontal=True):
        if view.model_version is not None:
            model = desk.client.model(desk.name, view.model_version)
            st.link_button(
                f"MLflow run of v{model.version}", model.run_url, icon=":material/science:"
            )
        else:
            settings = desk.settings
            address = settings.mlflow_public_url or settings.mlflow_url
            st.link_button("MLflow", address, icon=":material/science:")
        reports = desk.client.drift_reports(desk.name)
        if reports:
            n = len(reports[-1].drifted_columns)
            found = f"{n} column{'s' if n != 1 else ''} drifted" if n else "no drift"
            address = f"drift?project={quote(desk.name)}&report={quote(reports[-1].report_id)}"
            st.link_button(f"Newest drift report: {found}", address, icon=":material/monitoring:")


def step_bar(bar: list[Stage]) -> str:
    """Return the stages of a round as a row of HTML boxes."""
    cells = []
    for stage in bar:
        background, ink, border = COLOURS[stage.status]
        note = " · ".join(part for part in (stage.note, duration(stage.seconds)) if part)
        cells.append(
            f'<div style="flex:1 1 0;min-width:6.2rem;padding:.5rem .7rem;border-radius:.5rem;'
            f'background:{background};color:{ink};border:1px solid {border}">'
            f'<div style="font-weight:600;font-size:.9rem">{SIGNS[stage.status]} {stage.name}</div>'
            f'<div style="font-size:.78rem;min-height:1.2em">{html.escape(note)}</div></div>'
        )
    return f'<div style="display:flex;flex-wrap:wrap;gap:.4rem">{"".join(cells)}</div>'


def _jobs(desk: Desk) -> None:
    st.subheader("Jobs")
    alive = active_jobs(desk.client.jobs(project=desk.name))
    if not alive:
        st.caption("Nothing is running.")
    for job in alive:
        state = job.message or ("waiting for a worker" if job.state == "queued" else job.state)
        again = f"attempt {job.attempts} of {job.max_attempts}" if job.attempts > 1 else ""
        parts = (f"**{job.kind}**", state, duration(job.seconds), again)
        st.progress(job.progress, " · ".join(part for part in parts if part))


def _no_rounds(n_images: int) -> None:
    if n_images:
        st.info("No round has been run yet. Start the first one below.", icon=":material/flag:")
    else:
        st.info(
            "This project has no images yet: `fovea ingest path/to/images`.",
            icon=":material/add_photo_alternate:",
        )


def _cancel(desk: Desk, view: RoundView) -> None:
    with st.popover(f"Cancel round {view.index}", icon=":material/cancel:"):
        st.write("Its jobs stop. Labels given in it do not become a dataset version.")
        if st.button("Yes, cancel it", type="primary", key=f"cancel-{view.id}") and attempt(
            lambda: desk.client.cancel_round(desk.name, view.id), f"Round {view.index} cancelled"
        ):
            st.rerun()


def _rollback(desk: Desk, aliases: AliasView) -> None:
    if aliases.production is None:
        st.caption("No model is in production yet. The first round that passes the gate puts one.")
        return
    st.write(f"Version **{aliases.production}** answers predictions.")
    if aliases.previous is None:
        st.caption("There is no previous version to go back to.")
        return
    with st.popover(f"Roll back to v{aliases.previous}", icon=":material/undo:"):
        st.write(
            f"v{aliases.previous} answers predictions from now on, in place of "
            f"v{aliases.production}."
        )
        if st.button("Yes, roll back", type="primary", key="rollback") and attempt(
            lambda: desk.client.rollback(desk.name), f"v{aliases.previous} is in production"
        ):
            st.rerun()


def _version(version: int | None) -> str:
    return f"v{version}" if version is not None else "none"
