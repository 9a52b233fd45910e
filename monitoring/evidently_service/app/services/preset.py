"""Evidently's drift preset, laid out to be read from the top."""

import math
from typing import Any

from evidently.legacy.renderers.html_widgets import header_text
from evidently.presets import DataDriftPreset


class DriftPage(DataDriftPreset):  # type: ignore[misc]
    """The preset with a line that says what was compared, and the most drifted columns first.

    As it comes the table shows ten columns a page, the least drifted first.
    """

    summary: str = ""

    def __init__(self, *, summary: str, columns: list[str], threshold: float) -> None:
        """Test `columns` by Kolmogorov-Smirnov; one at or below `threshold` is drift."""
        one_column = math.floor(1000 / len(columns)) / 1000  # the page prints every digit
        self.summary = summary  # Evidently's models are frozen once their `__init__` is through
        super().__init__(columns=columns, method="ks", threshold=threshold, drift_share=one_column)

    def render(self, context: Any, child_widgets: Any = None) -> list[Any]:
        """Return the parts of the page."""
        widgets = super().render(context, child_widgets)
        for widget in widgets:
            if widget.type == "big_table":
                widget.params["data"].reverse()
                widget.params["rowsPerPage"] = len(widget.params["data"])
        return [header_text(label=self.summary), *widgets]
