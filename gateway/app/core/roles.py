"""Who may do what."""

from dataclasses import dataclass
from typing import Literal

from gateway.app.models.schemas import Role
from shared.errors import Forbidden

READ_METHODS = frozenset({"GET", "HEAD"})
ADMIN_PREFIXES = ("/v1/keys", "/v1/audit")


@dataclass(frozen=True)
class Principal:
    """Who sends a request; `service` is one of our own services and may do everything."""

    id: str
    name: str
    role: Role | Literal["service", "anonymous"]


SERVICE = Principal(id="service", name="service", role="service")
ANONYMOUS = Principal(id="anonymous", name="anonymous", role="anonymous")


def check_role(principal: Principal, method: str, path: str) -> None:
    """Let the request pass if the principal's role allows it.

    Raises:
        Forbidden: it does not; the message names role and route.
    """
    if not _allowed(principal, method, path):
        msg = f"role {principal.role!r} may not {method} {path}"
        raise Forbidden(msg)


def is_open(method: str, path: str) -> bool:
    """Tell whether a path needs no key: signed addresses of files carry their own right."""
    return method in READ_METHODS and path.startswith("/v1/files/")


def _allowed(principal: Principal, method: str, path: str) -> bool:
    if principal.role in {"service", "admin"}:
        return True
    if path.startswith(ADMIN_PREFIXES):
        return False
    if method in READ_METHODS:
        return principal.role != "anonymous" or is_open(method, path)
    return principal.role == "annotator" and _is_labelling(method, path)


def _is_labelling(method: str, path: str) -> bool:
    match method, path.split("/"):
        case "POST", ["", "v1", "projects", _, "leases"]:
            return True
        case "PUT", ["", "v1", "projects", _, "tasks", _, "answer"]:
            return True
        case _:
            return False
