"""Shapes the gateway's answers into what the pages show."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from shared.models.data import SPLITS, DatasetVersionView, ProjectView
from shared.models.jobs import FINAL_STATES, JobView
from shared.models.rounds import RoundState, RoundView
from shared.models.strategies import Strategy, describe

StepStatus = Literal["done", "now", "later", "failed"]

STAGES: tuple[RoundState, ...] = (
    "scoring",
    "selecting",
    "labelling",
    "training",
    "calibrating",
    "gating",
    "done",
)
# Of a round that only labels a held-out split.
LABELLING_STAGES: tuple[RoundState, ...] = ("scoring", "selecting", "labelling", "done")
STAGE_OF_STEP: Mapping[str, RoundState] = {
    "score": "scoring",
    "select": "selecting",
    "label": "labelling",
    "close": "labelling",
    "train": "training",
    "score_heldout": "calibrating",
    "calibrate": "calibrating",
    "gate": "gating",
}
ENDED: frozenset[RoundState] = frozenset({"done", "failed", "cancelled"})
CURVE_COLUMNS = (
    "round",
    "strategy",
    "labelled images",
    "boxes",
    "mAP50",
    "mAP50-95",
    "model version",
    "production",
)


@dataclass(frozen=True)
class Stage:
    """One stage of a round as the step bar shows it."""

    name: RoundState
    status: StepStatus
    seconds: float | None
    note: str = ""


def stages(view: RoundView) -> list[Stage]:
    """Return a round's stages in order, with the seconds that their jobs took."""
    seconds = stage_seconds(view)
    names = STAGES if view.request.purpose == "train" else LABELLING_STAGES
    reached = names.index(_reached(view))
    shown = []
    for i, name in enumerate(names):
        status: StepStatus = "done" if i < reached or view.state == "done" else "later"
        if i == reached and view.state != "done":
            status = "failed" if view.state in ENDED else "now"
        note = f"{view.n_done} of {view.n_tasks}" if name == "labelling" and view.n_tasks else ""
        shown.append(Stage(name, status, seconds.get(name), note))
    return shown


def stage_seconds(view: RoundView) -> dict[RoundState, float]:
    """Return the seconds of each stage's jobs, summed."""
    total: dict[RoundState, float] = {}
    for step in view.steps:
        stage = STAGE_OF_STEP.get(step.step)
        if stage is not None and step.seconds is not None:
            total[stage] = total.get(stage, 0.0) + step.seconds
    return total


def current_round(rounds: Sequence[RoundView]) -> RoundView | None:
    """Return the round to look at: the newest that runs, else the newest."""
    running = [r for r in rounds if r.state not in ENDED]
    return max(running or rounds, key=lambda r: r.index, default=None)


def learning_curve(
    rounds: Iterable[RoundView], versions: Iterable[DatasetVersionView], production: int | None
) -> pd.DataFrame:
    """Return one row per round that measured a model on test, with `CURVE_COLUMNS`."""
    by_version = {v.version: v for v in versions}
    rows = []
    for view in rounds:
        version = by_version.get(view.dataset_version or 0)
        if version is None or "map50" not in view.metrics:
            continue
        rows.append(
            (
                view.index,
                strategy_name(view.request.strategy),
                version.n_images.get("train", 0),
                version.n_boxes.get("train", 0),
                view.metrics["map50"],
                view.metrics.get("map50_95"),
                view.model_version,
                view.model_version is not None and view.model_version == production,
            )
        )
    return pd.DataFrame(rows, columns=list(CURVE_COLUMNS))


def long_curve(curve: pd.DataFrame) -> pd.DataFrame:
    """Return the learning curve with one row per round and metric, for a chart."""
    kept = [name for name in CURVE_COLUMNS if name not in {"mAP50", "mAP50-95"}]
    return curve.melt(
        id_vars=kept, value_vars=["mAP50", "mAP50-95"], var_name="metric", value_name="quality"
    ).dropna(subset=["quality"])


def split_table(project: ProjectView, newest: DatasetVersionView | None) -> pd.DataFrame:
    """Return images and labelled images of each split; `newest` is the newest dataset version."""
    labelled = dict(newest.n_images) if newest else {}
    boxes = dict(newest.n_boxes) if newest else {}
    return pd.DataFrame(
        {
            "split": list(SPLITS),
            "images": [project.n_by_split.get(s, 0) for s in SPLITS],
            "labelled": [labelled.get(s, 0) for s in SPLITS],
            "boxes": [boxes.get(s, 0) for s in SPLITS],
        }
    )


def active_jobs(jobs: Iterable[JobView]) -> list[JobView]:
    """Return the jobs that run or wait: running first, then in the order they were made."""
    alive = [job for job in jobs if job.state not in FINAL_STATES]
    return sorted(alive, key=lambda job: (job.state != "running", job.created_at))


def drift_table(columns: Mapping[str, float], drifted: Iterable[str]) -> pd.DataFrame:
    """Return the p-value of each column, drifted ones first, then the smallest first."""
    flagged = set(drifted)
    rows = sorted(columns.items(), key=lambda item: (item[0] not in flagged, item[1]))
    return pd.DataFrame(
        [(name, name in flagged, p) for name, p in rows], columns=["column", "drifted", "p-value"]
    )


def selection_reasons(rounds: Iterable[RoundView]) -> dict[str, str]:
    """Return by image id which round chose it and why; the newest round wins."""
    return {
        chosen.image_id: f"Round {view.index}, place {chosen.rank}: {chosen.reason}"
        for view in rounds
        for chosen in view.selected
    }


def strategy_name(strategy: Strategy) -> str:
    """Return a strategy as people read it: `bald, max over boxes`."""
    aggregation: str | None = getattr(strategy, "aggregation", None)
    if aggregation not in {"max", "mean", "sum"}:
        return describe(strategy)
    return f"{strategy.strategy}, {aggregation} over boxes"


def duration(seconds: float | None) -> str:
    """Return seconds as people read them: `43 ms`, `4.2 s`, `3 min 05 s`; empty for none."""
    if seconds is None:
        return ""
    if seconds < 0.9995:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 59.5:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def _reached(view: RoundView) -> RoundState:
    if view.state not in {"failed", "cancelled"}:
        return view.state if view.request.purpose == "train" else _of_labelling(view.state)
    stages_seen = [STAGE_OF_STEP[s.step] for s in view.steps if s.step in STAGE_OF_STEP]
    failed = [
        STAGE_OF_STEP[s.step] for s in view.steps if s.state == "failed" and s.step in STAGE_OF_STEP
    ]
    if failed:
        last = failed[0]
    else:
        stages_seen += ["labelling"] if view.n_tasks else ["scoring"]
        last = max(stages_seen, key=STAGES.index)
    return last if view.request.purpose == "train" else _of_labelling(last)


def _of_labelling(state: RoundState) -> RoundState:
    return state if state in LABELLING_STAGES else "labelling"
