"""Payloads and results of the service's own jobs."""

from pydantic import Field

from shared.models.geometry import Frozen


class RoundStep(Frozen):
    """Payload of `labeling.select` and `labeling.close`: the round they work on."""

    round_id: str


class SelectionResult(Frozen):
    """Result of `labeling.select`."""

    round_id: str
    n_selected: int
    note: str | None = Field(description="What was not as asked for, in words.")


class ClosingResult(Frozen):
    """Result of `labeling.close`."""

    round_id: str
    dataset_version: int
    n_labelled: int
    n_skipped: int
    n_boxes: int
