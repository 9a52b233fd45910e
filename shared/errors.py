"""Errors that carry their HTTP status, so that a port's failure answers the right code itself."""

from typing import ClassVar


class AppError(Exception):
    """Base of every error a caller may see; the message names the thing and the value."""

    status: ClassVar[int] = 400
    headers: ClassVar[dict[str, str]] = {}

    @property
    def name(self) -> str:
        """Return the class name, the stable part of the error body."""
        return type(self).__name__


class BadRequest(AppError):
    """The request is well-formed but asks for something impossible."""


class Unauthorised(AppError):
    """No key, or one that is not known."""

    status = 401
    headers: ClassVar[dict[str, str]] = {"WWW-Authenticate": "Bearer"}


class Forbidden(AppError):
    """The key is known, but may not do this."""

    status = 403


class NotFound(AppError):
    """The named thing does not exist."""

    status = 404


class RequestTimeout(AppError):
    """The body of the request does not come, or comes too slowly to hold a place for it."""

    status = 408
    headers: ClassVar[dict[str, str]] = {"Connection": "close"}


class Conflict(AppError):
    """The thing exists already, or is in a state that does not allow this."""

    status = 409


class Gone(AppError):
    """The thing existed, and is no more (a lease that ran out, a signed address past its time)."""

    status = 410


class TooLarge(AppError):
    """The payload is over a limit."""

    status = 413


class UnsupportedMedia(AppError):
    """The payload is not of a kind we read."""

    status = 415


class ValidationFailed(AppError):
    """The payload does not fit its schema."""

    status = 422


class RateLimited(AppError):
    """Too many requests; try again later."""

    status = 429
    headers: ClassVar[dict[str, str]] = {"Retry-After": "1"}


class BackendUnavailable(AppError):
    """A configured back end is down; the message names it."""

    status = 503
    headers: ClassVar[dict[str, str]] = {"Retry-After": "5"}


class ComesLater(BackendUnavailable):
    """Nothing is down: another job has to end first; the message names it."""


class JobInterrupted(AppError):
    """Something outside ended the work half-way; another attempt can go on with it."""

    status = 500


class UpstreamFailed(AppError):
    """A service behind the gateway answered something that is not ours to explain."""

    status = 502


def error_classes() -> dict[str, type[AppError]]:
    """Return every error class by name, so that a client can raise what the server raised."""
    found: dict[str, type[AppError]] = {}
    pending: list[type[AppError]] = [AppError]
    while pending:
        cls = pending.pop()
        found[cls.__name__] = cls
        pending.extend(cls.__subclasses__())
    return found
