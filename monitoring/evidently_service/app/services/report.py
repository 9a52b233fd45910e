"""Evidently's drift report of two tables."""

import json
import os
from dataclasses import dataclass
from typing import Any

from monitoring.evidently_service.app.services.columns import Tables

# How likely a report is to flag anything at all when nothing has changed.
FAMILY_ALPHA = 0.01


@dataclass(frozen=True)
class Report:
    """A report as page and as data.

    Attributes:
        html: a page that needs nothing from elsewhere.
        content: Evidently's own JSON.
        p_values: of the Kolmogorov-Smirnov test, by column.
        threshold: a column at or below it has drifted.
    """

    html: str
    content: dict[str, Any]
    p_values: dict[str, float]
    threshold: float

    @property
    def drifted(self) -> tuple[str, ...]:
        """Return the columns that have drifted, the clearest first."""
        flagged = [name for name, p in self.p_values.items() if p <= self.threshold]
        return tuple(sorted(flagged, key=lambda name: (self.p_values[name], name)))


def make_report(tables: Tables, what: str) -> Report:
    """Compare the tables column by column.

    Every column gets the two-sample Kolmogorov-Smirnov test at `FAMILY_ALPHA` divided by the number
    of columns (Bonferroni), so that a report on unchanged images flags a column in at most one of a
    hundred. Ties, as in counts, make the test more careful, never less.

    Args:
        tables: to compare.
        what: a few words on what they are, for the page.
    """
    os.environ.setdefault("DO_NOT_TRACK", "1")
    from evidently import DataDefinition, Dataset
    from evidently import Report as EvidentlyReport

    from monitoring.evidently_service.app.services.preset import DriftPage

    columns = tables.columns
    threshold = FAMILY_ALPHA / len(columns)
    definition = DataDefinition(numerical_columns=columns)
    summary = f"{what}. A column has drifted when its p is at most {threshold:.2g}."
    page = DriftPage(summary=summary, columns=columns, threshold=threshold)
    snapshot = EvidentlyReport([page]).run(
        Dataset.from_pandas(tables.current, data_definition=definition),
        Dataset.from_pandas(tables.reference, data_definition=definition),
    )
    content: dict[str, Any] = json.loads(snapshot.json())
    return Report(
        html=snapshot.get_html_str(as_iframe=False),
        content=content,
        p_values=_p_values(content),
        threshold=threshold,
    )


def _p_values(content: dict[str, Any]) -> dict[str, float]:
    return {
        metric["config"]["column"]: float(metric["value"])
        for metric in content["metrics"]
        if metric["config"]["type"] == "evidently:metric_v2:ValueDrift"
    }
