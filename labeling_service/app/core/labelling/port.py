"""The port of whatever people label in: the built-in task table, or another tool."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from shared.models.geometry import Annotation, Detection


@dataclass(frozen=True)
class LabellingRound:
    """What a back end must know of a round: `classes` in the order of their ids."""

    id: str
    project: str
    classes: tuple[str, ...]


@dataclass(frozen=True)
class NewTask:
    """One image to be labelled; boxes are xyxy, normalised to [0, 1]."""

    image_id: str
    rank: int
    reason: str
    pre_annotations: tuple[Detection, ...] = ()


@dataclass(frozen=True)
class Progress:
    """How far a round's labelling is."""

    n_tasks: int
    n_labelled: int
    n_skipped: int

    @property
    def n_done(self) -> int:
        """Return how many tasks were answered, skipped ones too."""
        return self.n_labelled + self.n_skipped

    @property
    def complete(self) -> bool:
        """Tell whether there are tasks and all of them are answered."""
        return 0 < self.n_tasks == self.n_done


@dataclass(frozen=True)
class Answer:
    """What somebody said of one image; boxes are xyxy, normalised to [0, 1], with their source."""

    image_id: str
    outcome: Literal["labelled", "skipped"]
    annotations: tuple[Annotation, ...]
    annotator: str


class Labelling(Protocol):
    """Where people answer the tasks of a round. Every call may be repeated."""

    def open_round(self, labelling_round: LabellingRound, tasks: Sequence[NewTask]) -> None:
        """Offer the tasks; an image that the round has already keeps its task as it is."""
        ...

    def progress(self, round_id: str) -> Progress:
        """Return how many tasks there are and how many are answered; all 0 for an unknown round."""
        ...

    def answers(self, round_id: str) -> Sequence[Answer]:
        """Return the answers given so far, in the order of rank; reading changes nothing."""
        ...

    def skipped(self, project: str) -> Collection[str]:
        """Return the ids of the images that somebody skipped in any round of the project."""
        ...

    def close_round(self, round_id: str) -> None:
        """Take the unanswered tasks back; the answers stay readable."""
        ...
