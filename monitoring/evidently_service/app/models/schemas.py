"""What the drift service stores."""

from datetime import datetime
from typing import Any

from pydantic import Field

from shared.models.geometry import Frozen
from shared.models.registry import DriftCreate, DriftResult


class StoredReport(Frozen):
    """A drift report's data: what was asked, what came out, and Evidently's own figures."""

    created_at: datetime
    request: DriftCreate
    result: DriftResult
    evidently: dict[str, Any] = Field(description="As Evidently writes it.")
