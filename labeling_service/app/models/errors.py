"""Errors of rounds and tasks; each carries its HTTP status."""

from shared.errors import BadRequest, Conflict, Gone, NotFound, ValidationFailed


class UnknownRound(NotFound):
    """The project has no round with this id."""


class UnknownSimulation(NotFound):
    """The project has no simulation of this name."""


class UnknownTask(NotFound):
    """The project has no task with this id."""


class NoOpenTask(NotFound):
    """Nothing waits to be labelled."""


class EmptyPool(Conflict):
    """No unlabelled image is left to choose from."""


class NothingExpected(Conflict):
    """The budget is in boxes, and the model expects none."""


class RoundInProgress(Conflict):
    """Another round of this purpose is not finished yet."""


class RoundFinished(Conflict):
    """The round ended before."""


class RoundNotLabelling(Conflict):
    """The round does not take answers now."""


class NoClasses(Conflict):
    """The project's class map is not pinned yet."""


class NoModelYet(Conflict):
    """The strategy needs a model, and the project has none in production."""


class HeldOutNotLabelled(Conflict):
    """A held-out split has no labelled image to measure a model on."""


class UnknownStrategy(BadRequest):
    """No installed package has this strategy, or it does not take these parameters."""


class NotSelectable(BadRequest):
    """The strategy does not fit the purpose of the round."""


class NothingLabelled(Conflict):
    """Every task of the round was skipped."""


class AlreadyAnswered(Conflict):
    """Somebody else answered the task."""


class LeaseLost(Gone):
    """The lease ran out and somebody else has the task now."""


class UnknownClass(ValidationFailed):
    """An annotation names a class that the project does not have."""


class SkippedWithBoxes(ValidationFailed):
    """An answer says skipped and has boxes all the same."""
